"""From trials of equal configs to how far the seed alone moves the accuracy."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, t

from raylab.analysis.intervals import binomial_variance
from raylab.analysis.variances import out_of_line

FOLD = "split.fold"


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation over seeds, pooled over the configs that ran with several."""

    sd: float
    """Of one trial, within its fold."""
    low: float
    high: float
    """95 % chi-square interval."""
    num_configs: int
    df: int
    """Trials beyond the first of each config and fold."""
    num_apart: int = 0
    """Groups of seeds, of a config on one fold, that are not in it: one is far off the others, as
    a diverged one is.
    """

    def of_difference(self, num_trials: int) -> float:
        """How far apart the luck of the seed alone brings two means over `num_trials`, seeds times
        folds, in 95 % of cases; that of the validation images comes on top.

        Both means are over the same folds, which takes away what is easy in one and hard in
        another. A seed's luck in one fold is taken to say nothing of its luck in the next.
        """
        return float(t.ppf(0.975, self.df)) * self.sd * math.sqrt(2 / num_trials)


def seed_spread(frame: pd.DataFrame, config: list[str], metric: str) -> SeedSpread | None:
    """None if no config ran with two seeds on one fold.

    config: the columns in which the trials of a config agree, whatever their seed and fold; frame:
    with them, num_val and the metric, an accuracy.
    """
    same = [name for name in (*config, FOLD) if name in frame]
    groups = frame.dropna(subset=[metric]).groupby(same, dropna=False)[metric]
    sizes = groups.size()
    repeated = sizes[sizes > 1]
    if repeated.empty:
        return None
    own_df = np.asarray(repeated - 1, dtype=np.float64)
    variances = np.asarray(groups.var(ddof=1)[repeated.index], dtype=np.float64)
    share, num_val = float(frame[metric].mean()), float(frame["num_val"].median())
    apart = out_of_line(variances, own_df, binomial_variance(share, num_val) / num_val)
    df = int(own_df[~apart].sum())
    squares = float((own_df * variances)[~apart].sum())
    low, high = squares / chi2.ppf(0.975, df), squares / chi2.ppf(0.025, df)
    named = repeated.reset_index()[config]
    num_configs = len(named[~apart].drop_duplicates())
    sd = math.sqrt(squares / df)
    return SeedSpread(sd, math.sqrt(low), math.sqrt(high), num_configs, df, int(apart.sum()))
