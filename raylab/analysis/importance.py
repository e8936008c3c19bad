"""From a leaderboard to functional ANOVA: which share of the metric's variance an axis explains.

Hutter, Hoos and Leyton-Brown 2014, by Optuna's evaluator, on a study rebuilt from the trials. A
forest finds shares in pure noise too, so that only those axes are named of which a permutation test
says that their values order the metric at all: by the R² of a parabola over the ranks of a number,
of the means of words.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

from raylab.analysis.axes import Axis

MIN_CONFIGS = 10
NUM_FORESTS = 3  # the forest is random: several say how much
LEVEL = 0.05
NUM_SHUFFLES = 1999
MAX_CONFIGS = 400  # the time grows with their square: minutes for 2,000, and the same shares

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """One axis's share of the explained variance, 0..1, and its range over random forests."""

    axis: str
    share: float
    low: float
    high: float


def importances(frame: pd.DataFrame, axes: list[Axis], metric: str) -> list[Importance] | None:
    """Those that explain more than chance would, the most important axis first; None if fewer than
    10 configs or no axis were tried. With several axes the chance of one by luck is 5 %.

    Seeds and folds of a config are averaged first; of very many configs some are drawn.
    frame: one row per trial that has the metric.
    """
    by = [axis.fields[0] for axis in axes]
    if not axes:
        return None
    configs = frame.groupby(by, dropna=False)[[metric]].mean().reset_index()
    if len(configs) < MIN_CONFIGS:
        return None
    if len(configs) > MAX_CONFIGS:
        configs = configs.sample(MAX_CONFIGS, random_state=0)
    told = _told(configs, by, metric)
    if not told:
        return []
    study = _study(configs, by, metric)
    runs = [FanovaImportanceEvaluator(seed=seed).evaluate(study) for seed in range(NUM_FORESTS)]
    shares = np.array([[run[name] for name in by] for run in runs])  # (forests, axes)
    found = [
        Importance(axis.name, float(own.mean()), float(own.min()), float(own.max()))
        for axis, own in zip(axes, shares.T, strict=True)
        if axis.fields[0] in told
    ]
    return sorted(found, key=lambda importance: -importance.share)


def _told(configs: pd.DataFrame, names: list[str], metric: str) -> set[str]:
    """The columns that explain more of the metric than of nearly all its shuffles."""
    rng = np.random.default_rng(0)
    values = configs[metric].to_numpy(np.float64)
    values = values - values.mean()
    shuffled = np.array([rng.permutation(values) for _ in range(NUM_SHUFFLES)])
    told = set()
    for name in names:
        basis = _basis(configs[name])
        explained = ((values @ basis) ** 2).sum() * (1 - 1e-9)  # all of it is no more than all
        num_above = int((((shuffled @ basis) ** 2).sum(axis=1) >= explained).sum())
        if (1 + num_above) / (1 + NUM_SHUFFLES) <= LEVEL / len(names):
            told.add(name)
    return told


def _basis(column: "pd.Series[Any]") -> Floats:
    """(N, D), orthonormal: what a column can explain beyond the mean."""
    if _is_number(column):
        ranks = column.rank(pct=True).to_numpy(np.float64)
        design = np.vander(ranks, min(column.nunique(), 3), increasing=True)
    else:
        design = np.column_stack(
            [np.ones(len(column)), pd.get_dummies(column.astype(str), drop_first=True, dtype=float)]
        )
    basis: Floats = np.linalg.qr(design)[0][:, 1:]
    return basis


def _study(configs: pd.DataFrame, names: list[str], metric: str) -> optuna.Study:
    distributions = {name: _distribution(configs[name]) for name in names}
    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for row in configs.to_dict("records"):
        params = {
            name: float(row[name]) if isinstance(kind, FloatDistribution) else str(row[name])
            for name, kind in distributions.items()
        }
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=row[metric])
        )
    return study


def _distribution(column: "pd.Series[Any]") -> BaseDistribution:
    """Numbers over their range, by their logarithm where that spans a decade; else names."""
    if not _is_number(column):
        return CategoricalDistribution(sorted({str(value) for value in column}))
    low, high = float(column.min()), float(column.max())
    return FloatDistribution(low, high, log=low > 0 and high / low >= 10)


def _is_number(column: "pd.Series[Any]") -> bool:
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return is_number and bool(column.notna().all())
