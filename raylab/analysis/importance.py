"""From a leaderboard to functional ANOVA: which share of the accuracy's variance an axis explains.

Hutter, Hoos and Leyton-Brown 2014, by Optuna's evaluator, on a study rebuilt from the trials.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

from raylab.analysis.axes import REPEATS, Axis

MIN_CONFIGS = 10
NUM_FORESTS = 3  # the forest is random: several say how much
MAX_CONFIGS = 400  # the time grows with their square: minutes for 2,000, and the same shares


@dataclass(frozen=True)
class Importance:
    """One axis's share of the explained variance, 0..1, and its range over random forests."""

    axis: str
    share: float
    low: float
    high: float


def importances(frame: pd.DataFrame, axes: list[Axis], metric: str) -> list[Importance]:
    """The most important axis first; empty if fewer than 10 configs or one axis were tried.

    Seeds and folds of a config are averaged first; of very many configs some are drawn.
    frame: one row per trial that has the metric.
    """
    if not axes:
        return []
    names = [axis.fields[0] for axis in axes]
    by = [name for name in names if name not in REPEATS]
    configs = frame.groupby(by, dropna=False)[[metric]].mean().reset_index()
    if len(configs) < MIN_CONFIGS:
        return []
    if len(configs) > MAX_CONFIGS:
        configs = configs.sample(MAX_CONFIGS, random_state=0)
    study = _study(configs, by, metric)
    runs = [FanovaImportanceEvaluator(seed=seed).evaluate(study) for seed in range(NUM_FORESTS)]
    shares = np.array([[run[name] for name in by] for run in runs])  # (forests, axes)
    found = [
        Importance(axis.name, float(own.mean()), float(own.min()), float(own.max()))
        for axis, own in zip(axes, shares.T, strict=True)
    ]
    return sorted(found, key=lambda importance: -importance.share)


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
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return CategoricalDistribution(sorted({str(value) for value in column}))
    low, high = float(column.min()), float(column.max())
    return FloatDistribution(low, high, log=low > 0 and high / low >= 10)
