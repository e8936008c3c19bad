"""From an axis's effects to a verdict: it matters, it makes no difference, it is a dead wire."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from raylab.analysis.axes import Axis, remaining
from raylab.analysis.effects import Effect, Scores, effects

Kind = Literal["dead", "nothing", "matters", "unclear", "unpaired"]

MAX_LEVELS = 12
"""An axis with more was drawn from a range: hardly two of its trials agree in all the rest."""

MIN_QUARTER = 8


@dataclass(frozen=True)
class Verdict:
    """What one axis does to the metric."""

    axis: Axis
    kind: Kind
    """dead: identical metrics; nothing: within ±0.3 points; unpaired: no two trials to compare."""
    best_level: str
    """The level with the best mean over matched trials (over all trials where none match)."""
    effects: tuple[Effect, ...] = ()
    good_range: tuple[float, float] | None = None
    """Of an unpaired number: where the best quarter of the trials lies, 8 of them at least."""

    @property
    def clearest(self) -> Effect | None:
        """The effect that matters most: the largest clear one, else the largest."""
        by_size = sorted(self.effects, key=lambda e: -abs(e.estimate.value))
        return next((e for e in by_size if e.estimate.is_clear), next(iter(by_size), None))

    def worse_levels(self) -> set[str]:
        """Levels that are clearly worse than the best."""
        worse = set()
        for effect in self.effects:
            if effect.high_level == self.best_level and effect.estimate.low > 0:
                worse.add(effect.low_level)
            if effect.low_level == self.best_level and effect.estimate.high < 0:
                worse.add(effect.high_level)
        return worse


def judge(frame: pd.DataFrame, axes: Sequence[Axis], metric: str, scores: Scores) -> list[Verdict]:
    """One verdict per axis, in the axes' order; metric: a column, more being better."""
    verdicts = _verdicts(frame, axes, metric, scores)
    alive = without_copies(frame, frame, verdicts).reset_index(drop=True)
    if len(alive) == len(frame):
        return verdicts
    left = remaining(axes, alive)
    again = {v.axis.name: v for v in _verdicts(alive, left, metric, scores)}
    return [v if v.kind == "dead" else again.get(v.axis.name, v) for v in verdicts]


def without_copies(
    trials: pd.DataFrame, judged: pd.DataFrame, verdicts: Sequence[Verdict]
) -> pd.DataFrame:
    """The trials at the first level of every dead wire: its others repeat them, no new evidence.

    judged: the frame that the verdicts were made on.
    """
    for verdict in verdicts:
        if verdict.kind == "dead":
            first = judged.loc[verdict.axis.codes == 0, "trial_id"]
            trials = trials[trials["trial_id"].isin(first)]
    return trials


def _verdicts(
    frame: pd.DataFrame, axes: Sequence[Axis], metric: str, scores: Scores
) -> list[Verdict]:
    few = [axis for axis in axes if len(axis.levels) <= MAX_LEVELS]
    found = effects(frame, axes, few, metric, scores)
    return [_verdict(frame, axis, metric, tuple(found.get(axis.name, ()))) for axis in axes]


def _verdict(frame: pd.DataFrame, axis: Axis, metric: str, found: tuple[Effect, ...]) -> Verdict:
    if not found:
        means = frame[metric].groupby(axis.codes.to_numpy()).mean()
        best = axis.levels[int(means.to_numpy().argmax())]
        return Verdict(axis, "unpaired", best, good_range=_good_range(frame, axis, metric))
    best = _best_of(axis, found)
    if all(effect.is_identical for effect in found):
        kind: Kind = "dead"
    elif any(effect.estimate.is_clear and not effect.estimate.is_nothing for effect in found):
        kind = "matters"
    elif all(effect.estimate.is_nothing for effect in found):
        kind = "nothing"
    else:
        kind = "unclear"
    return Verdict(axis, kind, best, found)


def _good_range(frame: pd.DataFrame, axis: Axis, metric: str) -> tuple[float, float] | None:
    column = frame[axis.fields[0]]
    quarter = frame[metric].nlargest(len(frame) // 4).index
    if len(quarter) < MIN_QUARTER or not pd.api.types.is_float_dtype(column):
        return None
    low, high = float(column[quarter].min()), float(column[quarter].max())
    return (low, high) if low < high else None


def _best_of(axis: Axis, found: tuple[Effect, ...]) -> str:
    """The level whose mean lead over the levels it was paired with is the largest."""
    leads: dict[str, list[float]] = {level: [] for level in axis.levels}
    for effect in found:
        leads[effect.high_level].append(effect.estimate.value)
        leads[effect.low_level].append(-effect.estimate.value)
    paired = {level: sum(lead) / len(lead) for level, lead in leads.items() if lead}
    return max(paired, key=lambda level: paired[level])
