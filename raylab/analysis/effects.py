"""From matched trials to what an axis changes: paired differences with intervals, interactions.

Two trials are a pair if they agree in everything but the axis, the seed included. An interval has
two parts: the repeats (the same pair under other seeds and folds; where nothing was repeated, all
pairs, so that it also holds how unlike the settings are), and the validation images, which all
pairs share, so that more pairs do not make them less random. The mean is over this sweep's own
settings.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, t

from raylab.analysis.axes import Axis, contexts, settings
from raylab.analysis.predictions import TrialPredictions

HISTORY = "history"
"""What a trial measured in all its epochs, as one number; a frame may do without."""
DEAD_COLUMNS = ("val_accuracy", "val_loss", "val_macro_f1", "train_loss", "train_accuracy")
NO_DIFFERENCE = 0.003
"""An effect whose interval lies within ± this (0.3 points) makes no difference."""
MIN_REPEATS = 2
"""Degrees of freedom below which the spread within settings says nothing."""

Floats = npt.NDArray[np.float64]
Predictions = Mapping[str, TrialPredictions]


@dataclass(frozen=True)
class Estimate:
    """A mean difference in accuracy, as a share, and its interval."""

    value: float
    low: float
    """NaN with `high` where one pair alone gives no interval."""
    high: float
    num: int
    """Pairs, or squares of four trials."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def is_nothing(self) -> bool:
        """Whether the interval lies within ±0.3 points."""
        return self.low >= -NO_DIFFERENCE and self.high <= NO_DIFFERENCE


@dataclass(frozen=True)
class Effect:
    """What going from one level of an axis to another changes."""

    axis: str
    low_level: str
    high_level: str
    estimate: Estimate
    is_identical: bool
    """Every pair gave the same metrics to the last digit, in every epoch: it changed nothing."""


@dataclass(frozen=True)
class Interaction:
    """How much more going from a to b on the first axis brings at d than at c of the second."""

    axes: tuple[str, str]
    levels: tuple[tuple[str, str], tuple[str, str]]
    """((a, b), (c, d))"""
    at_first: float
    """The effect of a → b at c."""
    at_second: float
    """The effect of a → b at d."""
    estimate: Estimate


@dataclass(frozen=True)
class Comparison:
    """Which trials stand against which."""

    rows: npt.NDArray[np.int64]
    """(P, M): positions in the frame; each row a pair, or a square."""
    signs: Floats
    """(M,): how the trials of a row are added."""
    settings: npt.NDArray[np.int64]
    """(P,): rows of one setting differ in seed and fold only."""
    num_compared: int = 1
    """Comparisons whose intervals are to hold together."""


def effects(
    frame: pd.DataFrame,
    axes: Sequence[Axis],
    asked: Sequence[Axis],
    metric: str,
    predictions: Predictions,
) -> dict[str, list[Effect]]:
    """Per asked axis every pair of levels; the intervals of one axis hold together (Bonferroni).

    frame: one row per trial, its validation images counted in num_val, or of no account without
    it; axes: all that differ in it; predictions: by trial_id.
    """
    found: dict[str, list[Effect]] = {}
    for axis in asked:
        square = _table(frame, contexts(frame, axes, [axis]), axis.codes)
        level_pairs = list(itertools.combinations(range(len(axis.levels)), 2))
        found[axis.name] = []
        for a, b in level_pairs:
            pairs = square[[a, b]].dropna().astype(int).to_numpy()
            if len(pairs):
                signs = np.array([-1.0, 1.0])
                same_setting = settings(frame, axes, [axis]).to_numpy()[pairs[:, 0]]
                comparison = Comparison(pairs, signs, same_setting, len(level_pairs))
                estimate = contrast(frame, comparison, metric, predictions)
                same = _is_identical(frame, pairs)
                levels = axis.levels[a], axis.levels[b]
                found[axis.name].append(Effect(axis.name, *levels, estimate, same))
    return found


def interactions(
    frame: pd.DataFrame,
    axes: Sequence[Axis],
    asked: Sequence[Axis],
    metric: str,
    predictions: Predictions,
) -> list[Interaction]:
    """Every two asked axes at every two levels of each, the largest first.

    The intervals hold together (Bonferroni).
    """
    squares = []
    for f, g in itertools.combinations(asked, 2):
        table = _table(frame, contexts(frame, axes, [f, g]), f.codes * len(g.levels) + g.codes)
        for a, b in itertools.combinations(range(len(f.levels)), 2):
            for c, d in itertools.combinations(range(len(g.levels)), 2):
                cells = [
                    f_level * len(g.levels) + g_level for g_level in (c, d) for f_level in (a, b)
                ]
                if set(cells) <= set(table.columns):
                    rows = table[cells].dropna().astype(int).to_numpy()
                    squares.append((f, g, (a, b, c, d), rows))
    squares = [square for square in squares if len(square[3]) > 1]
    found = []
    for f, g, (a, b, c, d), rows in squares:
        signs = np.array([1.0, -1.0, -1.0, 1.0])  # (b - a at d) - (b - a at c)
        same_setting = settings(frame, axes, [f, g]).to_numpy()[rows[:, 0]]
        comparison = Comparison(rows, signs, same_setting, len(squares))
        estimate = contrast(frame, comparison, metric, predictions)
        at_c_a, at_c_b, at_d_a, at_d_b = frame[metric].to_numpy()[rows].mean(axis=0)
        levels = (f.levels[a], f.levels[b]), (g.levels[c], g.levels[d])
        axes_names = f.name, g.name
        found.append(Interaction(axes_names, levels, at_c_b - at_c_a, at_d_b - at_d_a, estimate))
    return sorted(found, key=lambda i: -abs(i.estimate.value))


def contrast(
    frame: pd.DataFrame, comparison: Comparison, metric: str, predictions: Predictions
) -> Estimate:
    """The mean of the metric's signed sums; one row alone tells nothing of repeats: no interval."""
    rows, signs = comparison.rows, comparison.signs
    values = frame[metric].to_numpy(dtype=np.float64)[rows] @ signs
    mean, num = float(values.mean()), len(values)
    if num < 2:
        return Estimate(mean, math.nan, math.nan, num)
    tail = 0.025 / comparison.num_compared
    variance, df = _repeat_variance(values, comparison.settings)
    repeats = float(t.isf(tail, df)) * math.sqrt(variance / num)
    images = image_error(frame["trial_id"].to_numpy()[rows], signs, predictions)
    if images is None:
        shares = frame[metric].to_numpy(dtype=np.float64)[rows].mean(axis=0)
        images = unpaired_error(shares, signs, num_images(frame))
    half = math.hypot(repeats, float(norm.isf(tail)) * images)
    return Estimate(mean, mean - half, mean + half, num)


def _repeat_variance(values: Floats, setting: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Variance of one value and its degrees of freedom; within settings if those were repeated."""
    df = len(values) - len(np.unique(setting))
    if df < MIN_REPEATS:
        return float(values.var(ddof=1)), len(values) - 1
    _, places = np.unique(setting, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    return float(((values - means[places]) ** 2).sum() / df), df


def image_error(
    trial_ids: npt.NDArray[np.object_], signs: Floats, predictions: Predictions
) -> float | None:
    """Standard error of the mean contrast that the choice of validation images alone makes.

    trial_ids (P, M). Paired on the images that all M trials of a row validated; where they
    validated other images (another split), the images count as two independent draws. None where
    no row has predictions. It holds a little of the seeds' noise too, which widens the interval.
    Predictions are of a trial's best epoch; where trials are compared after another one, how
    differently two of them are right is taken to be the same there.
    """
    known = [row for row in trial_ids if all(trial_id in predictions for trial_id in row)]
    if not known:
        return None
    ids: list[npt.NDArray[np.str_]] = []
    values: list[Floats] = []
    for row in known:
        trials = [predictions[trial_id] for trial_id in row]
        right = [trial.correct for trial in trials]
        first = trials[0].image_ids
        if not all(np.array_equal(trial.image_ids, first) for trial in trials):
            shares = np.array([r.mean() for r in right])
            return unpaired_error(shares, signs, np.array([len(r) for r in right], np.float64))
        ids.append(np.asarray(first))
        values.append(signs @ np.array(right, dtype=np.float64))
    _, places = np.unique(np.concatenate(ids), return_inverse=True)
    counts = np.bincount(places)
    means = np.bincount(places, np.concatenate(values)) / counts
    return float(means.std(ddof=1) / math.sqrt(len(means)))


def unpaired_error(shares: Floats, signs: Floats, num: float | Floats) -> float:
    """Standard error of the signed sum of accuracies (M,) on `num` images each, drawn for each
    alone: an upper bound for trials on the same images, which are right on much the same ones.
    """
    return math.sqrt(float((signs**2 * shares * (1 - shares) / num).sum()))


def num_images(frame: pd.DataFrame) -> float:
    """Validation images of all splits of the frame together; inf where nobody counted them."""
    if "num_val" not in frame or frame["num_val"].isna().all():
        return math.inf
    if "split_fingerprint" not in frame:
        return float(frame["num_val"].median())
    return float(frame.groupby("split_fingerprint", dropna=False)["num_val"].first().sum())


def _table(frame: pd.DataFrame, context: "pd.Series[int]", cell: "pd.Series[int]") -> pd.DataFrame:
    """Rows = contexts, columns = cells, values = the trial's position in the frame, or NaN."""
    placed = pd.DataFrame(
        {"context": context.to_numpy(), "cell": cell.to_numpy(), "row": np.arange(len(frame))}
    )
    return placed.drop_duplicates(["context", "cell"]).pivot(
        index="context", columns="cell", values="row"
    )


def _is_identical(frame: pd.DataFrame, pairs: npt.NDArray[np.int64]) -> bool:
    columns = [name for name in DEAD_COLUMNS if name in frame]
    measured = frame[columns].to_numpy(dtype=np.float64)
    first, second = measured[pairs[:, 0]], measured[pairs[:, 1]]
    if HISTORY in frame:  # what only acts after the best epoch acts all the same
        histories = frame[HISTORY].to_numpy()
        if (histories[pairs[:, 0]] != histories[pairs[:, 1]]).any():
            return False
    return bool(np.array_equal(first, second, equal_nan=True) and not np.isnan(first).all())
