"""From matched trials to what an axis changes: paired differences with intervals, interactions.

Two trials are a pair if they agree in everything but the axis, the seed included. An interval has
two parts: the repeats (the same pair under other seeds and folds; where nothing was repeated, all
pairs, so that it also holds how unlike the settings are), and the validation images, which all
pairs share, so that more pairs do not make them less random. Two or three repeats of one pair of
levels say next to nothing about their scatter: the level pairs of an axis borrow it from one
another. The mean is over this sweep's own settings.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2, norm, t

from raylab.analysis.axes import Axis, contexts, settings
from raylab.analysis.measures import ImageScores
from raylab.analysis.variances import PRIOR_DF, out_of_line

HISTORY = "history"
"""What a trial measured in all its epochs, as one number; a frame may do without."""
DEAD_COLUMNS = ("val_accuracy", "val_loss", "val_macro_f1", "train_loss", "train_accuracy")
NO_DIFFERENCE = 0.003
"""An effect whose interval lies within ± this (0.3 points) makes no difference."""
NEGLIGIBLE = 1e-7
"""A variance, 0.03 points squared: levels whose seeds agree to the last image set no norm."""
ODD_LEVEL = 0.001
"""Chance at which a level is set apart for its scatter: the steadiest pairs are picked ones."""
MIN_REPEATS = 2
"""Degrees of freedom below which the spread within settings says nothing."""
STEP = np.array([-1.0, 1.0])
"""The second of a pair less the first."""
ONE_IMAGE = 1.0
"""Added to the squares of a difference over images: two trials that agree on all of them may differ
on the next one."""

Floats = npt.NDArray[np.float64]
Scores = Mapping[str, ImageScores]


@dataclass(frozen=True)
class Estimate:
    """A mean difference in the metric, accuracy as a share, and its interval."""

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
    frame: pd.DataFrame, axes: Sequence[Axis], asked: Sequence[Axis], metric: str, scores: Scores
) -> dict[str, list[Effect]]:
    """Per asked axis every pair of levels; the intervals of one axis hold together (Bonferroni).

    frame: one row per trial, its validation images counted in num_val, or of no account without
    it; axes: all that differ in it; metric: its column, more being better; scores: by trial_id.
    """
    return {axis.name: _effects(frame, axes, axis, metric, scores) for axis in asked}


def _effects(
    frame: pd.DataFrame, axes: Sequence[Axis], axis: Axis, metric: str, scores: Scores
) -> list[Effect]:
    square = _table(frame, contexts(frame, axes, [axis]), axis.codes)
    same_setting = settings(frame, axes, [axis]).to_numpy()
    level_pairs = list(itertools.combinations(range(len(axis.levels)), 2))
    compared: dict[tuple[int, int], Comparison] = {}
    for a, b in level_pairs:
        pairs = square[[a, b]].dropna().astype(int).to_numpy()
        if len(pairs):
            setting = same_setting[pairs[:, 0]]
            compared[a, b] = Comparison(pairs, STEP, setting, len(level_pairs))
    estimates = _estimates(frame, compared, metric, scores)
    return [
        Effect(
            axis.name,
            axis.levels[a],
            axis.levels[b],
            estimate,
            _is_identical(frame, comparison.rows),
        )
        for ((a, b), comparison), estimate in zip(compared.items(), estimates, strict=True)
    ]


def _estimates(
    frame: pd.DataFrame,
    compared: Mapping[tuple[int, int], Comparison],
    metric: str,
    scores: Scores,
) -> list[Estimate]:
    """Of the level pairs of one axis."""
    spreads = [_within(_values(frame, c, metric), c.settings) for c in compared.values()]
    variances, df = np.array(spreads, dtype=np.float64).reshape(-1, 2).T
    # Every level stands in many pairs: all pairs together know no more than the levels do.
    total = 2 * df.sum() / max(len(set(itertools.chain(*compared))), 1)
    if total < MIN_REPEATS:
        return [contrast(frame, comparison, metric, scores) for comparison in compared.values()]
    steadier, known = _steadier(variances, df, list(compared)), np.minimum(PRIOR_DF + df, total)
    return [
        contrast(frame, comparison, metric, scores, spread)
        for comparison, *spread in zip(
            compared.values(), steadier.tolist(), known.tolist(), strict=True
        )
    ]


def _steadier(variances: Floats, df: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Each drawn towards what is usual among them (Smyth 2004), their median, made unbiased for
    equal ones; one diverged trial, which is in all pairs of its level, must not widen every
    interval (Phipson et al. 2016).
    """
    told = df > 0
    in_line = told & ~_of_odd_levels(variances, df, pairs)
    kept = in_line if in_line.any() else told
    usual = np.median(variances[kept] * df[kept] / chi2.ppf(0.5, df[kept]))
    if told.sum() < 3:  # of two nobody can tell which is odd
        usual = (df * variances).sum() / df.sum()
    steadier: Floats = (PRIOR_DF * usual + df * variances) / (PRIOR_DF + df)
    return steadier


def _of_odd_levels(
    variances: Floats, df: Floats, pairs: Sequence[tuple[int, int]]
) -> npt.NDArray[np.bool_]:
    """(P,) the pairs of levels that scatter against every other one, out of line with the rest."""
    steadiest: dict[int, int] = {}
    for at in np.argsort(variances, kind="stable"):
        for level in pairs[at] if df[at] else ():
            steadiest.setdefault(level, int(at))
    of_level = list(steadiest.values())
    apart = out_of_line(variances[of_level], df[of_level], NEGLIGIBLE, ODD_LEVEL)
    odd = {level for level, is_apart in zip(steadiest, apart, strict=True) if is_apart}
    return np.array([not odd.isdisjoint(pair) for pair in pairs])


def interactions(
    frame: pd.DataFrame, axes: Sequence[Axis], asked: Sequence[Axis], metric: str, scores: Scores
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
        estimate = contrast(frame, comparison, metric, scores)
        at_c_a, at_c_b, at_d_a, at_d_b = frame[metric].to_numpy()[rows].mean(axis=0)
        levels = (f.levels[a], f.levels[b]), (g.levels[c], g.levels[d])
        axes_names = f.name, g.name
        found.append(Interaction(axes_names, levels, at_c_b - at_c_a, at_d_b - at_d_a, estimate))
    return sorted(found, key=lambda i: -abs(i.estimate.value))


def contrast(
    frame: pd.DataFrame,
    comparison: Comparison,
    metric: str,
    scores: Scores,
    spread: Sequence[float] = (),
) -> Estimate:
    """The mean of the metric's signed sums; one row alone tells nothing of repeats: no interval.

    spread: variance of one signed sum over repeats and its degrees of freedom, where others than
    these rows told it.
    """
    rows, signs = comparison.rows, comparison.signs
    values = _values(frame, comparison, metric)
    mean, num = float(values.mean()), len(values)
    if num < 2:
        return Estimate(mean, math.nan, math.nan, num)
    tail = 0.025 / comparison.num_compared
    variance, df = spread or _repeat_variance(values, comparison.settings)
    repeats = float(t.isf(tail, df)) * math.sqrt(variance / num)
    images = image_error(frame["trial_id"].to_numpy()[rows], signs, scores)
    if images is None:
        shares = frame[metric].to_numpy(dtype=np.float64)[rows].mean(axis=0)
        images = unpaired_error(shares * (1 - shares), signs, num_images(frame))
    half = math.hypot(repeats, float(norm.isf(tail)) * images)
    return Estimate(mean, mean - half, mean + half, num)


def _values(frame: pd.DataFrame, comparison: Comparison, metric: str) -> Floats:
    """(P,) the metric's signed sums."""
    values: Floats = frame[metric].to_numpy(dtype=np.float64)[comparison.rows] @ comparison.signs
    return values


def _repeat_variance(values: Floats, setting: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Variance of one value and its degrees of freedom; within settings if those were repeated."""
    variance, df = _within(values, setting)
    return (variance, df) if df >= MIN_REPEATS else (float(values.var(ddof=1)), len(values) - 1)


def _within(values: Floats, setting: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Variance within settings and its degrees of freedom; 0 and 0 where none was repeated."""
    _, places = np.unique(setting, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    df = len(values) - len(means)
    return float(((values - means[places]) ** 2).sum() / max(df, 1)), df


def image_error(trial_ids: npt.NDArray[np.object_], signs: Floats, scores: Scores) -> float | None:
    """Standard error of the mean contrast that the choice of validation images alone makes.

    trial_ids (P, M). Paired on the images that all M trials of a row validated; where they
    validated other images (another split), the images count as two independent draws. None where
    no row has scores. It holds a little of the seeds' noise too, which widens the interval.
    Predictions are of a trial's best epoch; where trials are compared after another one, how
    differently two of them are right is taken to be the same there.
    """
    known = [row for row in trial_ids if all(trial_id in scores for trial_id in row)]
    if not known:
        return None
    ids: list[npt.NDArray[np.str_]] = []
    values: list[Floats] = []
    for row in known:
        trials = [scores[trial_id] for trial_id in row]
        first = trials[0].image_ids
        if not all(np.array_equal(trial.image_ids, first) for trial in trials):
            variances = np.array([trial.scores.var() for trial in trials])
            return unpaired_error(
                variances, signs, np.array([float(len(t.scores)) for t in trials])
            )
        ids.append(np.asarray(first))
        values.append(signs @ np.array([trial.scores for trial in trials]))
    _, places = np.unique(np.concatenate(ids), return_inverse=True)
    counts = np.bincount(places)
    means = np.bincount(places, np.concatenate(values)) / counts
    squares = float(((means - means.mean()) ** 2).sum())
    return math.sqrt(squares + ONE_IMAGE) / len(means)


def unpaired_error(variances: Floats, signs: Floats, num: float | Floats) -> float:
    """Standard error of the signed sum of means over `num` images each, drawn for each alone, from
    the variances over images (M,): an upper bound for trials on the same images, which are right on
    much the same ones.
    """
    seen = variances + ONE_IMAGE / len(signs) / num
    return math.sqrt(float((signs**2 * seen / num).sum()))


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
