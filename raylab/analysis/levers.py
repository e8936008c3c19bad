"""From the trials of a one-at-a-time grid to what each lever gains over the base, in pairs.

A lever is a change that is made alone (`levers:` of a grid). Its trials are paired with those of
the base of the same seed, fold and point of the axes, on the same validation images: a lever that
moves the split has no gain here, and is judged as an axis. Two or three seeds of one lever say
next to nothing about how far seeds scatter, so that this is pooled over the levers, less those
that scatter out of line; since all are measured against the same base trials, they say as much
about it as fewer independent ones would.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError
from scipy.stats import norm, t

from raylab.analysis.axes import REPEATS, shown
from raylab.analysis.effects import (
    MIN_REPEATS,
    NEGLIGIBLE,
    STEP,
    Estimate,
    Scores,
    image_error,
    num_images,
    unpaired_error,
)
from raylab.analysis.intervals import Floats
from raylab.analysis.variances import out_of_line, pooled, pooled_df
from raylab.config.fields import overlay, root
from raylab.config.files import FILES
from raylab.config.trial import TrialConfig
from raylab.results.leaderboard import differing_columns

RESOLVED = ("split.strategy", *(f"{name}_digest" for name in FILES))
"""What planning fills in: the grid's own trial does not say it."""
SHARED_BASE = 0.5
"""Correlation of two levers' gains at one seed: each is a difference from the same base trial."""
TAIL = 0.025


@dataclass(frozen=True)
class Gain:
    """What one lever, pulled alone, changes."""

    lever: str
    """`mixup 0.2`, or `loss focal, focal_gamma 1`."""
    estimate: Estimate
    mean: float
    """Of the metric over the lever's trials."""
    trial_ids: npt.NDArray[np.object_]
    """(P, 2): the base's and the lever's trial of every pair."""


def gains(frame: pd.DataFrame, grid: Mapping[str, Any], metric: str, scores: Scores) -> list[Gain]:
    """Every lever of the grid with at least one pair, the largest gain first.

    frame: one row per complete trial; grid: as the sweep has written it; metric: a column of the
    frame, more being better.
    """
    base = base_values(grid)
    fields = [
        name
        for name in differing_columns(frame)
        if name not in (*REPEATS, *RESOLVED) and is_pulled(grid, name)
    ]
    if not fields or not base:
        return []
    names = [_changed(base, row) for row in frame[fields].to_dict("records")]
    point = [name for name in differing_columns(frame) if name not in (*fields, *RESOLVED)]
    keyed = frame.assign(lever=names, _point=_point(frame, point))
    of_base = keyed[keyed["lever"] == ""].drop_duplicates("_point").set_index("_point")
    pairs = {
        str(lever): _pairs(trials, of_base, metric)
        for lever, trials in keyed[keyed["lever"] != ""].groupby("lever", sort=False)
    }
    paired = {lever: pair for lever, pair in pairs.items() if len(pair)}
    found = _estimated(paired, scores, num_images(frame))
    return sorted(found, key=lambda gain: -gain.estimate.value)


def base_values(grid: Mapping[str, Any], lever: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of the base, or of a lever on it, by their flat names; empty where they make no
    config.
    """
    try:
        values = overlay(grid.get("trial", {}), lever or {})
        return dict(TrialConfig.model_validate(values).flat())
    except ValidationError:
        return {}


def lever_name(grid: Mapping[str, Any], lever: Mapping[str, Any]) -> str:
    """What `Gain.lever` calls this lever of the grid."""
    pulled = {n: v for n, v in base_values(grid, lever).items() if n not in RESOLVED}
    return _changed(base_values(grid), pulled)


def is_pulled(grid: Mapping[str, Any], name: str) -> bool:
    """Whether this column says which lever was pulled: no axis, zipped or not, moves it, and it is
    none of the split's, which decide on which images a trial is measured.
    """
    axes = [*grid.get("axes", {}), *(key for group in grid.get("zip", []) for key in group)]
    return root(name) not in {"split", *map(root, axes)}


def _changed(base: Mapping[str, Any], values: Mapping[Any, Any]) -> str:
    """The values that are not the base's, in words; '' for the base itself."""
    return ", ".join(f"{n} {shown(v)}" for n, v in values.items() if v != base.get(n))


def _point(frame: pd.DataFrame, names: Sequence[str]) -> "pd.Series[Any]":
    """Per trial its seed, fold and point of the axes as one text."""
    texts: pd.Series[Any] = pd.Series("", index=frame.index)
    for name in names:
        texts = texts + frame[name].astype(str) + "\0"
    return texts


def _pairs(trials: pd.DataFrame, base: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per pair: base_id, lever_id, mean and gain; setting: all but seed and fold."""
    paired = trials[trials["_point"].isin(base.index)]
    partner = base.loc[paired["_point"]]
    return pd.DataFrame(
        {
            "base_id": partner["trial_id"].to_numpy(),
            "lever_id": paired["trial_id"].to_numpy(),
            "mean": paired[metric].to_numpy(dtype=float),
            "gain": paired[metric].to_numpy(dtype=float) - partner[metric].to_numpy(dtype=float),
            "setting": paired["family_id"].to_numpy(),
        }
    )


def _estimated(pairs: Mapping[str, pd.DataFrame], scores: Scores, num_val: float) -> list[Gain]:
    """The gains with intervals from the scatter over seeds and over images."""
    variances, df = _seed_variances(list(pairs.values()))
    found = []
    for (lever, rows), variance, known in zip(pairs.items(), variances, df, strict=True):
        value, half = float(rows["gain"].mean()), math.nan
        trial_ids = rows[["base_id", "lever_id"]].to_numpy(dtype=object)
        if known:
            seeds = float(t.isf(TAIL, known)) * math.sqrt(variance / len(rows))
            images = image_error(trial_ids, STEP, scores)
            if images is None:
                of_lever = float(rows["mean"].mean())
                shares = np.array([of_lever - value, of_lever])
                images = unpaired_error(shares * (1 - shares), STEP, num_val)
            half = math.hypot(seeds, float(norm.isf(TAIL)) * images)
        estimate = Estimate(value, value - half, value + half, len(rows))
        found.append(Gain(lever, estimate, float(rows["mean"].mean()), trial_ids))
    return found


def _seed_variances(levers: Sequence[pd.DataFrame]) -> tuple[Floats, Floats]:
    """(L,) of one pair's gain over seeds, and its degrees of freedom, 0 where too few say it.

    One for all levers, but for those whose scatter is out of line: a diverged seed widens the
    interval of its own lever alone.
    """
    own_df = np.array([len(rows) - rows["setting"].nunique() for rows in levers], dtype=float)
    if own_df.sum() < MIN_REPEATS:
        return np.zeros_like(own_df), np.zeros_like(own_df)
    squares = [
        float(((rows["gain"] - rows.groupby("setting")["gain"].transform("mean")) ** 2).sum())
        for rows in levers
    ]
    variances = np.array(squares) / np.maximum(own_df, 1)
    apart = out_of_line(variances, own_df, NEGLIGIBLE)
    df = pooled_df(own_df, apart) / np.where(apart, 1, 1 + ((~apart).sum() - 1) * SHARED_BASE**2)
    return pooled(variances, own_df, apart), df
