"""From timings of two sides to one row: the ratio, its limit, and whether it was held or noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Verdict = Literal["ok", "missed", "noisy", "info", "failed"]

# Repeats of one side that lie further apart, relative to their median, come from a busy machine.
NOISE_FRAC = 0.10


@dataclass(frozen=True, slots=True)
class Limit:
    """What a row must hold: a number, and on which side of it is good."""

    number: float
    is_ceiling: bool = True

    def holds(self, compared: float) -> bool:
        return compared <= self.number if self.is_ceiling else compared >= self.number

    def __str__(self) -> str:
        return f"{'≤' if self.is_ceiling else '≥'} {self.number:g}"


def at_most(number: float) -> Limit:
    """A ceiling."""
    return Limit(number)


def at_least(number: float) -> Limit:
    """A floor."""
    return Limit(number, is_ceiling=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. A number that was not taken is None."""

    what: str
    value: float | None
    unit: str
    baseline: float | None = None
    """The other side of the comparison, in the same unit."""
    ratio: float | None = None
    """What is compared with the limit where there is a baseline; `how` says which over which."""
    limit: Limit | None = None
    verdict: Verdict = "info"
    how: str = ""

    @property
    def compared(self) -> float | None:
        """What the limit is about: the ratio, or without a baseline the value itself."""
        return self.value if self.ratio is None else self.ratio

    def to_json(self) -> dict[str, float | str | None]:
        """The row as JSON's own types."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "limit": str(self.limit) if self.limit else None,
            "verdict": self.verdict,
            "how": self.how,
        }


def spread(repeats: Sequence[float]) -> float:
    """(largest - smallest) / median of one side's repeats; 0 for a single one."""
    middle = median(repeats)
    return (max(repeats) - min(repeats)) / middle if middle else 0.0


def is_noisy(rounds: Sequence[float], limit: Limit, *sides: Sequence[float]) -> bool:
    """Whether the machine was too noisy to tell: a side's repeats lie far apart, and the rounds,
    each a value that is compared with the limit, do not agree about it.
    """
    far_apart = any(spread(side) > NOISE_FRAC for side in sides)
    return far_apart and len({limit.holds(each) for each in rounds}) > 1


def judged(what: str, value: float, unit: str, limit: Limit | None, how: str) -> Row:
    """A row whose value itself is limited."""
    verdict: Verdict = "info"
    if limit is not None:
        verdict = "ok" if limit.holds(value) else "missed"
    return Row(what, value, unit, limit=limit, verdict=verdict, how=how)


def repeated(what: str, repeats: Sequence[float], unit: str, limit: Limit, how: str) -> Row:
    """A row for the median of repeats that is itself limited."""
    value = median(repeats)
    verdict: Verdict = "ok" if limit.holds(value) else "missed"
    if is_noisy(repeats, limit, repeats):
        verdict = "noisy"
    return Row(what, value, unit, limit=limit, verdict=verdict, how=how)


def compared(
    what: str,
    values: Sequence[float],
    baselines: Sequence[float],
    unit: str,
    limit: Limit | None,
    how: str,
    *,
    speed_up: bool = False,
) -> Row:
    """A row for two sides measured in turns; equally many of both, or one baseline for all.

    The ratio is value over baseline, with `speed_up` baseline over value; each side's median.
    """
    paired = baselines if len(baselines) == len(values) else [median(baselines)] * len(values)
    rounds = [b / v if speed_up else v / b for v, b in zip(values, paired, strict=True)]
    value, baseline = median(values), median(baselines)
    ratio = baseline / value if speed_up else value / baseline
    verdict: Verdict = "info"
    if limit is not None:
        verdict = "ok" if limit.holds(ratio) else "missed"
        if is_noisy(rounds, limit, values, baselines):
            verdict = "noisy"
    return Row(what, value, unit, baseline, ratio, limit, verdict, how)


def quantile(values: Sequence[float], fraction: float) -> float:
    """The value below which that fraction lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]
