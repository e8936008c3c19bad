"""A running sweep as one value: what the terminal, another terminal and a browser show of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

State = Literal["preparing", "running", "ended"]

MAX_CURVE = 40
"""Points of a curve that are kept: more than a terminal shows."""
MAX_RUNNING = 64
"""Running trials that are told one by one."""


@dataclass(frozen=True)
class RunningTrial:
    """One trial that runs."""

    trial_id: str
    name: str
    """What tells it from the others: `augment=light lr=0.001`."""
    epoch: int
    epochs: int
    curve: tuple[float, ...] = ()
    """The curve_metric after each epoch, thinned to MAX_CURVE."""
    train_loss: float | None = None
    images_per_s: float | None = None


@dataclass(frozen=True)
class Leader:
    """The best complete trial so far."""

    trial_id: str
    name: str
    value: float
    low: float | None = None
    """Its 95 % interval; None for a metric that has none."""
    high: float | None = None
    num_close: int = 0
    """Other complete trials whose value lies in that interval: they may be as good."""


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment."""

    sweep: str
    metric: str
    """What ranks."""
    curve_metric: str
    """What curves show: the metric itself where every epoch has it."""
    state: State
    total: int = 0
    slots: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    """Ended trials by status."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed trials by cause."""
    preparing: Mapping[str, Any] | None = None
    """`{"what": "48 px RGB", "done": 50, "total": 100}` while images are prepared."""
    num_running: int = 0
    running: tuple[RunningTrial, ...] = ()
    best: Leader | None = None
    left_s: Mapping[str, float] | None = None
    """Seconds until the end: low, mid, high; None while nobody can tell."""
    elapsed_s: float = 0.0
    images_per_s: float = 0.0
    notes: tuple[str, ...] = ()
    """The latest remarks."""
    written_at: float = 0.0
    """Seconds since 1970."""

    @property
    def num_ended(self) -> int:
        """Trials of any status."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any) -> "Snapshot":
        """What `to_json` gave; keys of a later raylab are passed over. ValueError if it is none."""
        try:
            known = {each.name for each in fields(cls)}
            values = {key: value for key, value in given.items() if key in known}
            values["running"] = tuple(
                RunningTrial(**{**trial, "curve": tuple(trial["curve"])})
                for trial in values.get("running", ())
            )
            values["best"] = Leader(**values["best"]) if values.get("best") else None
            values["notes"] = tuple(values.get("notes", ()))
            return cls(**values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no snapshot of a sweep: {error}") from error


def thinned(values: list[float]) -> tuple[float, ...]:
    """At most MAX_CURVE of them, evenly, the last one always."""
    if len(values) <= MAX_CURVE:
        return tuple(values)
    step = (len(values) - 1) / (MAX_CURVE - 1)
    return tuple(values[round(i * step)] for i in range(MAX_CURVE))
