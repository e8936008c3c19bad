"""From a trial's record and its repetition's to a verdict: the same, within the spread, or not.

On the same CPU and code the two must agree bit for bit. Elsewhere, or on a GPU, which adds up in no
fixed order, they must differ no more than two seeds do.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from scipy.special import stdtrit

from raylab.config.sweep import EPOCH_METRICS
from raylab.results.environment import differences
from raylab.results.record import Record

Verdict = Literal["same", "within spread", "mismatch"]
Pair = tuple[Any, Any]
"""(then, now)."""

# Other memory, or a commit of the folder one stands in, changes no bit; `code` is raylab's own.
NOT_NAMED = frozenset({"git_sha", "git_diff", "memory_bytes", "num_cpus", "platform"})


@dataclass(frozen=True)
class Spread:
    """How far two seeds of the family lie apart in val_accuracy."""

    std: float
    source: str
    """Where the figure is from."""
    df: float = math.inf
    """Its degrees of freedom; infinite where it was calculated, not measured."""

    @property
    def limit(self) -> float:
        """The largest difference that is no news: of two runs of one thing, 95 % differ by less
        (the repeatability limit of ISO 5725-6, for a standard deviation from few runs).
        """
        quantile = stdtrit(self.df, 0.975) if math.isfinite(self.df) else 1.96
        return float(quantile) * math.sqrt(2) * self.std


@dataclass(frozen=True)
class Repetition:
    """What repeating a trial showed."""

    trial_id: str
    verdict: Verdict
    bits_expected: bool
    """Whether device, CPU, code and versions were the same, so that every bit must be."""
    val_accuracy: Pair
    spread: Spread
    differs: Mapping[str, Pair]
    """Version, data or device: what was not as it had been."""
    first_difference: str | None
    """Where the two part, in words; None if nowhere."""

    def to_json(self) -> dict[str, Any]:
        """As JSON's own types."""
        found = asdict(self)
        then, now = self.val_accuracy
        found["val_accuracy"] = {"then": then, "now": now, "difference": now - then}
        found["differs"] = {k: {"then": a, "now": b} for k, (a, b) in self.differs.items()}
        found["spread"] = {
            "std": self.spread.std,
            "source": self.spread.source,
            "limit": self.spread.limit,
        }
        return found


def compare(
    then: Record,
    now: Record,
    environments: tuple[Mapping[str, Any], Mapping[str, Any]],
    predictions: tuple[pa.Table | None, pa.Table],
    family: Iterable[Record],
) -> Repetition:
    """Two complete records of one trial; pairs are (then, now), `family` its other seeds."""
    differs = what_differs(then, now, environments)
    first = first_difference(then, now) or predictions_difference(*predictions)
    # More workers add up their sums in an order of their own.
    on_cpu = {then.device, now.device} == {"cpu"} and {then.num_workers, now.num_workers} == {1}
    bits_expected = on_cpu and not differs
    spread = spread_of(then, family)
    accuracies = (then.val_accuracy or 0.0, now.val_accuracy or 0.0)
    verdict: Verdict = "same"
    if first is not None:
        is_near = abs(accuracies[1] - accuracies[0]) <= spread.limit
        verdict = "within spread" if is_near and not bits_expected else "mismatch"
    return Repetition(then.trial_id, verdict, bits_expected, accuracies, spread, differs, first)


def what_differs(
    then: Record, now: Record, environments: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> dict[str, Pair]:
    """Name → (then, now) of all that may explain another result."""
    names = ("data_fingerprint", "split_fingerprint", "device", "num_workers")
    chosen = ("precision", "num_micro_batches")  # while training: by `amp: auto`, by memory
    found: dict[str, Pair] = {n: (getattr(then, n), getattr(now, n)) for n in (*names, *chosen)}
    known_then, known_now = environments
    if known_then:
        found |= {k: v for k, v in differences(known_then, known_now).items() if k not in NOT_NAMED}
    else:
        found["environment"] = ("unknown", now.environment_id)
    if {then.device, now.device} == {"cpu"}:
        found.pop("gpus", None)
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def first_difference(then: Record, now: Record) -> str | None:
    """The first epoch and metric that are not the same to the last bit."""
    if len(then.epochs) != len(now.epochs):
        return f"{len(then.epochs)} epochs then, {len(now.epochs)} now"
    for before, after in zip(then.epochs, now.epochs, strict=True):
        for name in (*EPOCH_METRICS, "lr"):
            if before.get(name) != after.get(name):
                return f"epoch {before['epoch']}: {name} {before.get(name)} then, {after.get(name)}"
    return None


def predictions_difference(then: pa.Table | None, now: pa.Table) -> str | None:
    """How the predictions differ; None if not at all, or if the earlier ones were deleted."""
    if then is None or then.equals(now):
        return None
    if then.column_names != now.column_names or not then["image_id"].equals(now["image_id"]):
        return "predictions: of other images or classes"
    if not then["label"].equals(now["label"]):
        return "predictions: other labels"
    gap = max(
        float(np.abs(then[name].to_numpy() - now[name].to_numpy()).max())
        for name in then.column_names
        if name.startswith("p_")
    )
    return f"predictions: probabilities differ by up to {gap:g}"


def spread_of(record: Record, family: Iterable[Record]) -> Spread:
    """Of the family's complete seeds on the same split; of one alone, or of seeds that agree to the
    last image, the binomial error.
    """
    values = {
        other.trial_id: other.val_accuracy
        for other in (record, *family)
        if other.family_id == record.family_id
        and other.split_fingerprint == record.split_fingerprint
        and other.status == "complete"
        and other.val_accuracy is not None
    }
    why = "there is one seed only"
    if len(values) > 1:
        std = statistics.stdev(values.values())
        if std > 0:
            return Spread(std, f"std over {len(values)} seeds", len(values) - 1)
        why = f"its {len(values)} seeds agree to the last image"
    count = record.num_val or 1
    # half an image right and half one wrong: a perfect model's next run may miss one
    share = ((record.val_accuracy or 0.0) * count + 0.5) / (count + 1)
    error = math.sqrt(share * (1 - share) / count)
    return Spread(error, f"binomial standard error of {count} images, since {why}")
