"""From a sweep's events, as the driver hears them, to where the time between trials' steps went."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.config.trial import TrialConfig
from raylab.results.record import Record


@dataclass(slots=True)
class Seen:
    """One trial, in monotonic seconds of the driver."""

    config: TrialConfig
    started_s: float
    ended_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    """When each epoch's row arrived."""
    epochs_s: list[float] = field(default_factory=list)
    """How long each epoch took, validation included, as the trial measured it."""
    record: Record | None = None

    @property
    def first_step_s(self) -> float:
        """When the first epoch began, up to the delay of its report."""
        return self.arrivals_s[0] - self.epochs_s[0]


class Watch:
    """A sweep's view that shows nothing and remembers when everything happened."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    def preparing(self, what: str, done: int, total: int) -> None:
        """Not of interest here."""

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        """Not of interest here."""

    def note(self, text: str) -> None:
        """Not of interest here."""

    def close(self) -> None:
        """Nothing is held."""

    def started(self, trial_id: str, config: TrialConfig) -> None:
        self.seen[trial_id] = Seen(config, time.monotonic())

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.seen[trial_id].arrivals_s.append(time.monotonic())
        self.seen[trial_id].epochs_s.append(float(row["seconds"]))

    def ended(self, record: Record) -> None:
        seen = self.seen[record.trial_id]
        seen.ended_s, seen.record = time.monotonic(), record

    def trials(self) -> list[Seen]:
        """Those that have ended, in the order of their starts."""
        ended = [seen for seen in self.seen.values() if seen.record is not None]
        return sorted(ended, key=lambda seen: seen.started_s)


def wall(trials: Sequence[Seen]) -> float:
    """Seconds from the first trial's start to the last one's end."""
    return max(t.ended_s for t in trials) - min(t.started_s for t in trials)


def predecessors(trials: Iterable[Seen]) -> list[tuple[Seen, Seen]]:
    """(earlier, later) for every trial that took over a slot: it began when the other had ended.

    Slots are interchangeable; of several free ones the last freed is taken.
    """
    pairs = []
    ordered = sorted(trials, key=lambda trial: trial.started_s)
    waiting = sorted(ordered, key=lambda trial: trial.ended_s)
    for later in ordered:
        free = [trial for trial in waiting if trial.ended_s <= later.started_s]
        if free:
            waiting.remove(free[-1])
            pairs.append((free[-1], later))
    return pairs


def launches(trials: Iterable[Seen]) -> list[float]:
    """Seconds from one trial's last step to the first step of the next in its slot.

    Both moments are told by a report that takes equally long, so its delay cancels out.
    """
    pairs = predecessors(trial for trial in trials if trial.arrivals_s)
    return [later.first_step_s - earlier.arrivals_s[-1] for earlier, later in pairs]


def overhead_per_trial(trials: Sequence[Seen], num_slots: int) -> float:
    """Seconds of a slot per trial that are no epoch: (wall x slots - epochs) / trials."""
    busy = sum(sum(trial.epochs_s) for trial in trials)
    return (wall(trials) * num_slots - busy) / len(trials)
