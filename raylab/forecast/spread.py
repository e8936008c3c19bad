"""A number that was measured or foreseen, with how far it may be off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Spread:
    """low <= mid <= high."""

    low: float
    mid: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """The mean, since sums of such values follow it, and the quantiles 10 % and 90 %."""
        ordered = sorted(values)
        last, mean = len(ordered) - 1, fmean(ordered)
        return cls(
            min(mean, ordered[round(0.1 * last)]), mean, max(mean, ordered[round(0.9 * last)])
        )

    @classmethod
    def mean(cls, spreads: Sequence["Spread"]) -> "Spread":
        """Of each of the three."""
        parts = zip(*((each.low, each.mid, each.high) for each in spreads), strict=True)
        low, mid, high = map(fmean, parts)
        return cls(low, mid, high)

    @classmethod
    def exactly(cls, value: float) -> "Spread":
        """A number without doubt."""
        return cls(value, value, value)

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def times(self, factor: float) -> "Spread":
        """All three, for a factor >= 0."""
        return Spread(self.low * factor, self.mid * factor, self.high * factor)

    def as_json(self) -> dict[str, float]:
        """`{"low": …, "mid": …, "high": …}`."""
        return {"low": self.low, "mid": self.mid, "high": self.high}
