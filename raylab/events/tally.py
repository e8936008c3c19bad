"""From a sweep's events to its numbers at any moment: counts, curves, the best, the time left."""

import bisect
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.config.sweep import EPOCH_METRICS, metric_mode
from raylab.config.trial import TrialConfig
from raylab.results.live import MAX_RUNNING, Leader, RunningTrial, Snapshot, State, thinned
from raylab.results.record import Record

NUM_NOTES = 5
# Of a normal distribution: 90 % lie so many standard deviations around the mean.
Z_90 = 1.645


@dataclass(slots=True)
class Progress:
    """What is known of a trial that runs."""

    config: TrialConfig
    name: str
    row: Mapping[str, Any] | None = None
    """Of the latest epoch."""
    values: list[float] = field(default_factory=list)
    """The curve metric after each epoch."""


@dataclass(slots=True)
class Moments:
    """Mean and spread of values as they come (Welford 1962): a view asks after every trial."""

    num: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    def add(self, value: float) -> None:
        """One value more."""
        self.num += 1
        before = value - self.mean
        self.mean += before / self.num
        self.squares += before * (value - self.mean)

    @property
    def std(self) -> float:
        """Of the sample; needs two values."""
        return math.sqrt(self.squares / (self.num - 1))


class Tally:
    """The numbers behind every view of a sweep. `fields` tell its trials apart."""

    def __init__(self, metric: str, fields: Sequence[str], sweep: str = "") -> None:
        self.sweep, self.metric, self.fields = sweep, metric, tuple(fields)
        self.curve_metric = metric if metric in EPOCH_METRICS else "val_accuracy"
        self.total = self.slots = self.total_epochs = 0
        self.state: State = "preparing"
        self.in_work: Mapping[str, Any] | None = None
        self.done: dict[str, int] = {"complete": 0, "pruned": 0, "failed": 0}
        self.failures: Counter[str] = Counter()
        self.running: dict[str, Progress] = {}
        self.best: Record | None = None
        self.begun_at = time.monotonic()
        self.epochs_settled = 0
        self.epochs_replayed = 0
        """Of an earlier run, told again by trials that go on: they took this one no time."""
        self.paces = Moments()
        """Of the seconds per planned epoch of every trial that ended in this run."""
        self.values: list[float] = []
        """The metric of complete trials, ascending."""
        self.notes: deque[str] = deque(maxlen=NUM_NOTES)

    def preparing(self, what: str, done: int, total: int) -> None:
        self.in_work = {"what": what, "done": done, "total": total}

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        self.total, self.slots, self.total_epochs = total, slots, epochs
        self.begun_at = time.monotonic()
        self.state, self.in_work = "running", None
        for record in reused:
            self.count(record)

    def started(self, trial_id: str, config: TrialConfig) -> None:
        self.running[trial_id] = Progress(config, short_name(config.flat(), self.fields))

    def epoch(self, trial_id: str, row: Mapping[str, Any]) -> None:
        progress = self.running[trial_id]
        progress.row = row
        self.epochs_replayed += bool(row.get("is_replayed"))
        # A trial that was started again may repeat epochs.
        del progress.values[row["epoch"] - 1 :]
        progress.values.append(float(row[self.curve_metric]))

    def ended(self, record: Record) -> None:
        progress = self.running.pop(record.trial_id)
        self.epochs_settled += progress.config.epochs
        self.paces.add(record.seconds / progress.config.epochs)
        self.count(record)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        """What still ran was interrupted."""
        self.state = "ended"
        self.running.clear()

    def count(self, record: Record) -> None:
        """One more trial that has ended, now or earlier."""
        self.done[record.status] += 1
        if record.status == "failed":
            self.failures[record.error_kind or "unknown"] += 1
        value = getattr(record, self.metric)
        if record.status != "complete" or value is None:
            return
        bisect.insort(self.values, value)
        held = None if self.best is None else getattr(self.best, self.metric)
        sign = 1 if metric_mode(self.metric) == "max" else -1
        if held is None or sign * value > sign * held:
            self.best = record

    @property
    def seconds_left(self) -> float | None:
        """From the pace so far; pruned trials count with the epochs that they saved."""
        current = sum(each.row["epoch"] for each in list(self.running.values()) if each.row)
        settled = self.epochs_settled + current
        settled_now = settled - self.epochs_replayed
        if settled_now <= 0:
            return None
        elapsed = time.monotonic() - self.begun_at
        return float(elapsed * max(0, self.total_epochs - settled) / settled_now)

    @property
    def left_s(self) -> dict[str, float] | None:
        """`seconds_left` with 90 % around it, from how unlike the trials so far were; the same
        three times while fewer than two have ended.
        """
        mid = self.seconds_left
        if mid is None:
            return None
        spread, ended = 0.0, self.paces.num
        if ended > 1 and self.paces.mean > 0:
            remaining = max(1, self.total - sum(self.done.values()))
            share = self.paces.std / self.paces.mean
            spread = Z_90 * share * math.sqrt(1 / ended + 1 / remaining)
        return {"low": mid / (1 + spread), "mid": mid, "high": mid * (1 + spread)}

    @property
    def images_per_s(self) -> float:
        rows = (each.row for each in list(self.running.values()) if each.row)
        return float(sum(row["train_images_per_s"] for row in rows))

    def leader(self) -> Leader | None:
        """The best complete trial, and how many others lie in its interval."""
        if self.best is None:
            return None
        best, value = self.best, float(getattr(self.best, self.metric))
        low = high = None
        num_close = 0
        if self.metric == "val_accuracy" and best.val_accuracy_low is not None:
            low, high = best.val_accuracy_low, best.val_accuracy_high
            num_close = len(self.values) - bisect.bisect_left(self.values, low) - 1
        name = short_name(best.config, self.fields)
        return Leader(best.trial_id, name, value, low, high, num_close)

    def snapshot(self) -> Snapshot:
        """Everything as one value."""
        some = list(self.running.items())[:MAX_RUNNING]
        return Snapshot(
            sweep=self.sweep,
            metric=self.metric,
            curve_metric=self.curve_metric,
            state=self.state,
            total=self.total,
            slots=self.slots,
            counts={status: count for status, count in self.done.items() if count},
            failures=dict(self.failures),
            preparing=self.in_work,
            num_running=len(self.running),
            running=tuple(shown(trial_id, each) for trial_id, each in some),
            best=self.leader(),
            left_s=self.left_s if self.running else None,
            elapsed_s=time.monotonic() - self.begun_at,
            images_per_s=self.images_per_s,
            notes=tuple(self.notes),
            written_at=time.time(),
        )


def shown(trial_id: str, progress: Progress) -> RunningTrial:
    """A running trial as views tell it."""
    epochs, row = progress.config.epochs, progress.row
    if row is None:
        return RunningTrial(trial_id, progress.name, 0, epochs)
    return RunningTrial(
        trial_id,
        progress.name,
        row["epoch"],
        epochs,
        thinned(progress.values),
        row["train_loss"],
        row["train_images_per_s"],
    )


def short_name(flat: Mapping[str, Any], fields: Sequence[str]) -> str:
    """`augment=light lr=0.001`: the trial by what tells it from the others of its sweep."""
    parts = (
        f"{name}={flat[name]:g}" if isinstance(flat[name], float) else f"{name}={flat[name]}"
        for name in fields
    )
    return " ".join(parts) or str(flat["model"])
