"""A sweep's snapshot as text: a table for terminals of any width, one line for logs."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from raylab.results.durations import clock
from raylab.results.live import RunningTrial, Snapshot

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=*#"
MAX_BAR = 60
MIN_NAME = 6
LINES_AROUND = 8
"""Lines that are no running trial."""


def summary_line(snapshot: Snapshot) -> str:
    """Counts, speed and time left in one line."""
    if snapshot.preparing:
        work = snapshot.preparing
        return f"preparing {work['what']}: {work['done']:,}/{work['total']:,} images"
    parts = [f"{snapshot.num_ended}/{snapshot.total} trials"]
    if snapshot.left_s:
        parts.append(f"{left_text(snapshot)} left")
    if snapshot.state != "ended":
        parts.append(f"{snapshot.num_running} running")
    parts += [f"{count} {status}" for status, count in snapshot.counts.items() if count]
    if snapshot.images_per_s:
        parts.append(f"{snapshot.images_per_s:,.0f} images/s")
    return " · ".join(parts)


def left_text(snapshot: Snapshot) -> str:
    """`12:30`, or `12:30 (11:05 to 14:00)` where the spread is known."""
    left = snapshot.left_s or {"low": 0.0, "mid": 0.0, "high": 0.0}
    if clock(left["low"]) == clock(left["high"]):
        return clock(left["mid"])
    return f"{clock(left['mid'])} ({clock(left['low'])} to {clock(left['high'])})"


def best_line(snapshot: Snapshot) -> str:
    """The leader, its interval, and how many are as close."""
    best = snapshot.best
    if best is None:
        return "no finished trial yet"
    text = f"best {snapshot.metric} {best.value:.4f}"
    if best.low is not None and best.high is not None:
        text += f" [{best.low:.4f}, {best.high:.4f}]"
    if best.num_close:
        text += f", {best.num_close} more in this interval"
    return f"{text}  {best.name}"


def failure_line(snapshot: Snapshot) -> str | None:
    """Failed trials by cause; None without one."""
    if not snapshot.failures:
        return None
    causes = (f"{count} x {cause}" for cause, count in sorted(snapshot.failures.items()))
    return f"failed: {', '.join(causes)}"


def sparkline(values: Sequence[float], low: float, high: float, width: int, bars: str) -> str:
    """The last `width` values as bars between low and high."""
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in values[-width:])


class LiveTable:
    """The snapshot as rich draws it, as wide and as high as the terminal lets it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        snapshot, width = self.snapshot, options.max_width
        title = f"{snapshot.sweep}  " if snapshot.sweep else ""
        yield _line(title + summary_line(snapshot), "bold")
        if snapshot.preparing:
            yield from _bar(snapshot.preparing["total"], snapshot.preparing["done"], width)
            return
        yield from _bar(snapshot.total, snapshot.num_ended, width)
        busy = f"{snapshot.num_running} of {snapshot.slots} slots busy"
        yield _line(f"{busy}, {clock(snapshot.elapsed_s)} so far", "dim")
        yield _line(best_line(snapshot), "green")
        if failed := failure_line(snapshot):
            yield _line(failed, "red")
        rows = max(1, console.size.height - LINES_AROUND)
        if snapshot.running:
            bars = BARS if options.encoding.startswith("utf") else ASCII_BARS
            yield _table(snapshot, width, bars, rows)
        hidden = snapshot.num_running - min(rows, len(snapshot.running))
        if hidden > 0:
            yield _line(f"and {hidden} more", "dim")


def _bar(total: int, done: int, width: int) -> RenderResult:
    yield ProgressBar(max(1, total), done, width=min(width, MAX_BAR))
    yield Segment.line()


def _table(snapshot: Snapshot, width: int, bars: str, rows: int) -> Table:
    """The names get what the other columns leave of the width."""
    curves = [value for trial in snapshot.running for value in trial.curve]
    low, high = min(curves, default=0.0), max(curves, default=1.0)
    columns = _columns(snapshot.curve_metric, width)
    shown = snapshot.running[:rows]
    lines = [
        _cells(trial, snapshot.curve_metric, sparkline(trial.curve, low, high, width // 5, bars))
        for trial in shown
    ]
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in columns}
    for_names = max(MIN_NAME, width - sum(each + 1 for each in widths.values()))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("running", no_wrap=True, overflow="ellipsis", max_width=for_names)
    for name in columns:
        justify: JustifyMethod = "left" if name == "curve" else "right"
        table.add_column(name, justify=justify, no_wrap=True, min_width=widths[name])
    for trial, line in zip(shown, lines, strict=True):
        table.add_row(Text(trial.name), *(Text(line[name]) for name in columns))
    return table


def _columns(metric: str, width: int) -> list[str]:
    """The columns behind the name that a terminal so wide has room for."""
    least = {"epoch": 0, metric: 40, "curve": 56, "train_loss": 72, "images/s": 90}
    return [name for name, columns in least.items() if width >= columns]


def _cells(trial: RunningTrial, metric: str, curve: str) -> dict[str, str]:
    """What stands in each column. A `metric` train_loss has its column once."""
    loss, speed = trial.train_loss, trial.images_per_s
    return {
        "epoch": f"{trial.epoch}/{trial.epochs}",
        "curve": curve,
        "train_loss": "" if loss is None else f"{loss:.3f}",
        "images/s": "" if speed is None else f"{speed:,.0f}",
        metric: f"{trial.curve[-1]:.4f}" if trial.curve else "",
    }


def _line(text: str, style: str) -> Text:
    """One line that is cut, not wrapped: the view must not jump."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
