"""A running sweep on stderr: a table in a terminal, one line per event in a log."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from raylab.config.trial import TrialConfig
from raylab.events.tally import Tally, short_name
from raylab.results.live_text import LiveTable, best_line, summary_line
from raylab.results.record import Record
from raylab.storage import without_secrets

# A log that long says nothing looks like one that hangs.
HEARTBEAT_S = 30.0


class View(Protocol):
    """The events of a sweep, as they happen. An epoch's row says by `is_replayed` whether it was
    trained before, and is only told again.
    """

    def preparing(self, what: str, done: int, total: int) -> None: ...
    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None: ...
    def started(self, trial_id: str, config: TrialConfig) -> None: ...
    def epoch(self, trial_id: str, row: dict[str, Any]) -> None: ...
    def ended(self, record: Record) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


class Views:
    """Any number of views of one sweep, each told of every event in turn."""

    def __init__(self, *views: View) -> None:
        self.views = views

    def preparing(self, what: str, done: int, total: int) -> None:
        for view in self.views:
            view.preparing(what, done, total)

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        for view in self.views:
            view.planned(total, reused, slots, epochs)

    def started(self, trial_id: str, config: TrialConfig) -> None:
        for view in self.views:
            view.started(trial_id, config)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        for view in self.views:
            view.epoch(trial_id, row)

    def ended(self, record: Record) -> None:
        for view in self.views:
            view.ended(record)

    def note(self, text: str) -> None:
        for view in self.views:
            view.note(without_secrets(text))

    def close(self) -> None:
        for view in self.views:
            view.close()


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

    def __init__(
        self, console: Console, metric: str, fields: Sequence[str], sweep: str = ""
    ) -> None:
        self.console, self.tally = console, Tally(metric, fields, sweep)
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
        self.tally.started(trial_id, config)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.tally.epoch(trial_id, row)
        if time.monotonic() - self.last_line_s > HEARTBEAT_S:
            self.line(summary_line(self.tally.snapshot()))

    def ended(self, record: Record) -> None:
        self.tally.ended(record)
        name = short_name(record.config, self.tally.fields)
        result = result_text(record, self.tally.metric)
        summary = summary_line(self.tally.snapshot())
        self.line(f"{record.status:8} {record.trial_id} {name}  {result}  ({summary})")

    def note(self, text: str) -> None:
        self.line(text)

    def close(self) -> None:
        if not self.tally.total:  # refused before the trials were planned
            return
        self.tally.close()
        snapshot = self.tally.snapshot()
        self.line(f"{summary_line(snapshot)}; {best_line(snapshot)}")


class LiveView(LogView):
    """A table that updates in place: for people at a terminal."""

    def __init__(
        self, console: Console, metric: str, fields: Sequence[str], sweep: str = ""
    ) -> None:
        super().__init__(console, metric, fields, sweep)
        self.live = Live(
            get_renderable=self.render, console=console, refresh_per_second=4, transient=True
        )
        self.live.start()

    def preparing(self, what: str, done: int, total: int) -> None:
        self.tally.preparing(what, done, total)

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.tally.epoch(trial_id, row)

    def ended(self, record: Record) -> None:
        self.tally.ended(record)
        if record.status == "failed":
            name = short_name(record.config, self.tally.fields)
            self.line(f"failed {record.trial_id} {name}  {record.error_kind}: {record.error}")

    def render(self) -> RenderableType:
        """The sweep as it stands, drawn from rich's own thread."""
        return LiveTable(self.tally.snapshot())

    def close(self) -> None:
        self.live.stop()
        super().close()


def make_view(quiet: bool, metric: str, fields: Sequence[str], sweep: str = "") -> View:
    """The view that fits: live on a terminal, else (in notebooks too) a line per event; none at
    all where quiet is asked for.
    """
    if quiet:
        return Views()
    console = Console(stderr=True, force_jupyter=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, metric, fields, sweep)
    return LogView(console, metric, fields, sweep)
