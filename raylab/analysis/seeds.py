"""From trials of equal configs to how far the seed alone moves the accuracy."""

import math
from dataclasses import dataclass

import pandas as pd
from scipy.stats import chi2, t

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

    def of_difference(self, num_trials: int) -> float:
        """How far apart the luck of the seed alone brings two means over `num_trials`, seeds times
        folds, in 95 % of cases; that of the validation images comes on top.

        Both means are over the same folds, which takes away what is easy in one and hard in
        another. A seed's luck in one fold is taken to say nothing of its luck in the next.
        """
        return float(t.ppf(0.975, self.df)) * self.sd * math.sqrt(2 / num_trials)


def seed_spread(frame: pd.DataFrame, config: list[str], metric: str) -> SeedSpread | None:
    """None if no config ran with two seeds on one fold.

    config: the columns in which the trials of a config agree, whatever their seed and fold.
    """
    same = [name for name in (*config, FOLD) if name in frame]
    groups = frame.dropna(subset=[metric]).groupby(same, dropna=False)[metric]
    sizes = groups.size()
    repeated = sizes[sizes > 1]
    if repeated.empty:
        return None
    df = int((repeated - 1).sum())
    squares = float((groups.var(ddof=1)[repeated.index] * (repeated - 1)).sum())
    low, high = squares / chi2.ppf(0.975, df), squares / chi2.ppf(0.025, df)
    num_configs = len(repeated.reset_index()[config].drop_duplicates())
    return SeedSpread(math.sqrt(squares / df), math.sqrt(low), math.sqrt(high), num_configs, df)
