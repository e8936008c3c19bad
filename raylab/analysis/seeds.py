"""From trials of equal configs to how far the seed alone moves the accuracy."""

import math
from dataclasses import dataclass

import pandas as pd
from scipy.stats import chi2, t


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation over seeds, pooled over the configs that ran with several."""

    sd: float
    low: float
    high: float
    """95 % chi-square interval."""
    num_configs: int
    df: int
    """Trials beyond the first of each config."""

    def of_difference(self, num_seeds: int) -> float:
        """How far apart the luck of the seed alone brings two means over `num_seeds`, in 95 % of
        cases; that of the validation images comes on top.
        """
        return float(t.ppf(0.975, self.df)) * self.sd * math.sqrt(2 / num_seeds)


def seed_spread(frame: pd.DataFrame, same: list[str], metric: str) -> SeedSpread | None:
    """None if no config ran with two seeds. same: the columns in which repeats agree."""
    groups = frame.dropna(subset=[metric]).groupby(same, dropna=False)[metric]
    sizes = groups.size()
    repeated = sizes[sizes > 1]
    if repeated.empty:
        return None
    df = int((repeated - 1).sum())
    squares = float((groups.var(ddof=1)[repeated.index] * (repeated - 1)).sum())
    low, high = squares / chi2.ppf(0.975, df), squares / chi2.ppf(0.025, df)
    return SeedSpread(math.sqrt(squares / df), math.sqrt(low), math.sqrt(high), len(repeated), df)
