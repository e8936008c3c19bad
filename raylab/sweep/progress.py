"""A running sweep on stderr: a table in a terminal, one line per event in a log."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from raylab.config.sweep import metric_mode
from raylab.config.trial import TrialConfig
from raylab.results.record import Record

# A log that long says nothing looks like one that hangs.
HEARTBEAT_S = 30.0


class View(Protocol):
    """The events of a sweep, as they happen."""

    def preparing(self, what: str, done: int, total: int) -> None: ...
    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None: ...
    def started(self, trial_id: str, config: TrialConfig) -> None: ...
    def epoch(self, trial_id: str, row: dict[str, Any]) -> None: ...
    def ended(self, record: Record) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


class Tally:
    """The numbers behind both views: counts by status, the best so far, speed, time left."""

    def __init__(self, metric: str, fields: Sequence[str]) -> None:
        self.metric, self.fields = metric, tuple(fields)
        self.total = self.slots = self.total_epochs = 0
        self.done: dict[str, int] = {"complete": 0, "pruned": 0, "failed": 0}
        self.running: dict[str, tuple[TrialConfig, dict[str, Any] | None]] = {}
        self.best: Record | None = None
        self.begun_at = time.monotonic()
        self.epochs_run = self.epochs_settled = 0

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        self.total, self.slots, self.total_epochs = total, slots, epochs
        self.begun_at = time.monotonic()
        for record in reused:
            self.count(record)

    def count(self, record: Record) -> None:
        self.done[record.status] += 1
        value = getattr(record, self.metric)
        if record.status != "complete" or value is None:
            return
        held = None if self.best is None else getattr(self.best, self.metric)
        sign = 1 if metric_mode(self.metric) == "max" else -1
        if held is None or sign * value > sign * held:
            self.best = record

    def ended(self, record: Record) -> None:
        config, _ = self.running.pop(record.trial_id)
        self.epochs_settled += config.epochs
        self.count(record)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.running[trial_id] = (self.running[trial_id][0], row)
        self.epochs_run += 1

    @property
    def seconds_left(self) -> float | None:
        """From the pace so far; pruned trials count with the epochs that they saved."""
        current = sum(row["epoch"] for _, row in self.running.values() if row)
        settled = self.epochs_settled + current
        if not settled:
            return None
        elapsed = time.monotonic() - self.begun_at
        return float(elapsed * max(0, self.total_epochs - settled) / settled)

    @property
    def images_per_s(self) -> float:
        rows = (row for _, row in self.running.values() if row)
        return float(sum(row["train_images_per_s"] for row in rows))

    def summary(self) -> str:
        """Counts in one line."""
        ended = sum(self.done.values())
        parts = [f"{ended}/{self.total} trials", f"{len(self.running)} running"]
        parts += [f"{count} {status}" for status, count in self.done.items() if count]
        if self.images_per_s:
            parts.append(f"{self.images_per_s:,.0f} images/s")
        if self.seconds_left is not None and self.running:
            parts.append(f"{clock(self.seconds_left)} left")
        return " · ".join(parts)

    def best_line(self) -> str:
        if self.best is None:
            return "no finished trial yet"
        name = short_name(self.best.config, self.fields)
        return f"best {result_text(self.best, self.metric)}  {name}"


def short_name(flat: Mapping[str, Any], fields: Sequence[str]) -> str:
    """`augment=light lr=0.001`: the trial by what tells it from the others of its sweep."""
    parts = (
        f"{name}={flat[name]:g}" if isinstance(flat[name], float) else f"{name}={flat[name]}"
        for name in fields
    )
    return " ".join(parts) or str(flat["model"])


def clock(seconds: float) -> str:
    """`3:07`, or `1:03:07` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def result_text(record: Record, metric: str) -> str:
    """`val_accuracy 0.6312 [0.6143, 0.6478]`, or the error of a failed trial."""
    if record.status == "failed":
        return f"{record.error_kind}: {record.error}"
    text = f"{metric} {getattr(record, metric):.4f}"
    if metric == "val_accuracy" and record.val_accuracy_low is not None:
        text += f" [{record.val_accuracy_low:.4f}, {record.val_accuracy_high:.4f}]"
    return text


class LogView:
    """One line per event: for logs, pipes and CI."""

    def __init__(self, console: Console, metric: str, fields: Sequence[str]) -> None:
        self.console, self.tally = console, Tally(metric, fields)
        self.last_share = -1.0
        self.last_line_s = time.monotonic()

    def line(self, text: str) -> None:
        """One event, with its time."""
        self.last_line_s = time.monotonic()
        self.console.print(Text(f"{time.strftime('%H:%M:%S')} {text}"), soft_wrap=True)

    def preparing(self, what: str, done: int, total: int) -> None:
        share = done / max(total, 1)
        if share >= 1 or share - self.last_share >= 0.25:
            self.last_share = -1.0 if share >= 1 else share
            self.line(f"prepare {what}: {done:,}/{total:,} images")

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        self.tally.planned(total, reused, slots, epochs)
        again = f", {len(reused)} already done" if reused else ""
        self.line(f"{total} trials{again}, {slots} at a time")

    def started(self, trial_id: str, config: TrialConfig) -> None:
        self.tally.running[trial_id] = (config, None)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.tally.epoch(trial_id, row)
        if time.monotonic() - self.last_line_s > HEARTBEAT_S:
            self.line(self.tally.summary())

    def ended(self, record: Record) -> None:
        self.tally.ended(record)
        name = short_name(record.config, self.tally.fields)
        result = result_text(record, self.tally.metric)
        self.line(f"{record.status:8} {record.trial_id} {name}  {result}  ({self.tally.summary()})")

    def note(self, text: str) -> None:
        self.line(text)

    def close(self) -> None:
        if not self.tally.total:  # refused before the trials were planned
            return
        self.line(f"{self.tally.summary()}; {self.tally.best_line()}")


class LiveView(LogView):
    """A table that updates in place: for people at a terminal."""

    def __init__(self, console: Console, metric: str, fields: Sequence[str]) -> None:
        super().__init__(console, metric, fields)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.tasks: dict[str, Any] = {}
        self.live = Live(
            get_renderable=self.render, console=console, refresh_per_second=4, transient=True
        )
        self.live.start()

    def preparing(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(f"prepare {what}", total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        for task in self.tasks.values():
            self.bars.remove_task(task)
        self.tasks.clear()
        super().planned(total, reused, slots, epochs)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.tally.epoch(trial_id, row)

    def ended(self, record: Record) -> None:
        self.tally.ended(record)
        if record.status == "failed":
            name = short_name(record.config, self.tally.fields)
            self.line(f"failed {record.trial_id} {name}  {record.error_kind}: {record.error}")

    def render(self) -> RenderableType:
        if self.tasks:
            return self.bars
        table = Table(box=None, pad_edge=False)
        for name in ("running", "epoch", "train_loss", "val_accuracy", "images/s"):
            table.add_column(name, justify="left" if name == "running" else "right")
        for config, row in list(self.tally.running.values()):
            name = short_name(config.flat(), self.tally.fields)
            if row is None:
                table.add_row(name, f"0/{config.epochs}", "", "", "")
                continue
            table.add_row(
                name,
                f"{row['epoch']}/{config.epochs}",
                f"{row['train_loss']:.3f}",
                f"{row['val_accuracy']:.4f}",
                f"{row['train_images_per_s']:,.0f}",
            )
        lines = [Text(self.tally.summary(), style="bold"), Text(self.tally.best_line())]
        return Group(*lines, table)

    def close(self) -> None:
        self.live.stop()
        super().close()


class QuietView(LogView):
    """Only failures."""

    def line(self, text: str) -> None:
        """Nothing is printed."""


def make_view(quiet: bool, metric: str, fields: Sequence[str]) -> View:
    """The view that fits: quiet, live on a terminal, else one line per event."""
    console = Console(stderr=True)
    if quiet:
        return QuietView(console, metric, fields)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, metric, fields)
    return LogView(console, metric, fields)
