"""From a frame of trials to a frame of families: mean, spread and interval over seeds and folds."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from raylab.analysis.intervals import (
    Floats,
    binomial_variance,
    score_interval,
    student_quantile,
)
from raylab.analysis.variances import out_of_line, pooled, pooled_df, satterthwaite
from raylab.config.sweep import metric_mode
from raylab.results.intervals import CONFIDENCE
from raylab.results.record import CONFIG_COLUMNS

# In which the trials of one family differ.
WITHIN_FAMILY = ("seed", "split.fold")
MEASURES = (
    *("trial_id", "family_id", "status", "split_fingerprint"),
    *("val_accuracy", "num_val", "val_macro_f1", "seconds"),
)
FAMILY_FIELDS = tuple(name for name in CONFIG_COLUMNS if name not in WITHIN_FAMILY)


def by_family(frame: pd.DataFrame, metric: str = "val_accuracy") -> pd.DataFrame:
    """One row per family, best first by the mean of the metric; after all others those that lack
    folds, whose rest may be the easy ones, and families without the metric end it.

    A family is measured by its complete trials, or by its pruned ones where none is complete; a
    trial that stands in several sweeps counts once. Columns: rank, family_id, sweep, the config
    without seed and fold, status (how many trials ended how), num_trials (measured ones),
    num_seeds (with all folds that any seed has), num_folds, num_images, split_fingerprint (all of
    them, joined by +), family_mean, family_std (over these seeds), family_low, family_high (see
    `count_intervals`), val_macro_f1, the metric, and seconds (of all trials).
    """
    # Only what is needed is copied: a wide board of a million trials is gigabytes.
    needed = [name for name in dict.fromkeys((*MEASURES, *WITHIN_FAMILY, metric)) if name in frame]
    trials = frame.loc[~frame["trial_id"].duplicated(), needed]
    kept = measured(trials)
    groups = kept.groupby("family_id", sort=False)
    shown = [name for name in ("family_id", "sweep", *FAMILY_FIELDS) if name in frame]
    first = frame.loc[~frame["family_id"].duplicated(), shown].set_index("family_id")
    families = first.assign(
        status=_statuses(trials),
        num_trials=groups.size(),
        num_folds=groups["split.fold"].nunique() if "split.fold" in kept else 1,
        split_fingerprint=_fingerprints(kept),
        **_accuracies(kept),
        seconds=trials.groupby("family_id")["seconds"].sum(),
    )
    for name in dict.fromkeys(("val_macro_f1", metric)):
        if name not in families:
            families[name] = groups[name].mean()
    counts = ["num_trials", "num_seeds", "num_folds"]
    families[counts] = families[counts].fillna(0).astype(int)
    families["family_low"], families["family_high"] = count_intervals(families)
    by = "family_mean" if metric == "val_accuracy" else metric
    ordered = families.reset_index().sort_values(
        [by, "family_id"], ascending=[metric_mode(metric) == "min", True], na_position="last"
    )
    lacking = num_lacking(ordered).where(ordered["num_trials"] > 0, np.inf)
    if lacking.any():
        ordered = ordered.loc[lacking.sort_values(kind="stable").index]
    ordered.insert(0, "rank", range(1, len(ordered) + 1))
    return ordered.reset_index(drop=True)


def num_lacking(families: pd.DataFrame) -> "pd.Series[float]":
    """Per family the folds of which no trial is measured, from its split.folds and num_folds."""
    if "split.folds" not in families:
        return pd.Series(0.0, index=families.index)
    wanted = families["split.folds"].astype(float).fillna(1.0).clip(lower=1.0)
    lacking: pd.Series[float] = (wanted - families["num_folds"].clip(lower=1)).clip(lower=0.0)
    return lacking


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that stand for their families: complete ones, pruned where none is complete."""
    complete = trials["status"] == "complete"
    without = ~complete.groupby(trials["family_id"]).transform("any")
    kept = complete | ((trials["status"] == "pruned") & without)
    return trials[kept & trials["val_accuracy"].notna()]


def count_intervals(families: pd.DataFrame) -> tuple[Floats, Floats]:
    """95 % intervals from accuracies alone, without stored predictions; (F,) and (F,).

    Wilson's for a single seed. Over S seeds the variance is at most p(1-p)/n + s**2/S, s the
    standard deviation over seeds: an upper bound, since without predictions nobody knows how
    often the seeds are right on the same images. `joint` needs no bound.
    """
    mean = families["family_mean"].to_numpy(float)
    images = families["num_images"].to_numpy(float)
    seeds = np.maximum(families["num_seeds"].to_numpy(float), 1)
    of_seeds = families["family_std"].fillna(0.0).to_numpy(float) ** 2 / seeds
    binomial = mean * (1 - mean)
    variance = np.where(images > 0, binomial / np.maximum(images, 1), np.nan) + of_seeds
    effective = np.where(of_seeds > 0, binomial / np.where(variance > 0, variance, 1), images)
    df = (seeds - 1) * (variance / np.where(of_seeds > 0, of_seeds, 1)) ** 2
    known = np.isfinite(mean) & (images > 0)
    low, high = score_interval(
        np.where(known, mean, 0.5),
        np.where(known, effective, 1.0),
        np.where(known & (of_seeds > 0), np.maximum(df, 1.0), np.inf),
        CONFIDENCE,
    )
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def clearly_worse(families: pd.DataFrame, level: float) -> "pd.Series[bool]":
    """Families so far below the first that no paired test is needed; none where it is unsure.

    Unpaired and Bonferroni-corrected for all pairs: wider than any paired test, since families
    tend to be right on the same images. The seeds' variance is pooled as in `joint`. What only
    folds tell of the luck of training is not known here: with one seed in each none is hopeless.
    """
    mean, images, std = (families[name] for name in ("family_mean", "num_images", "family_std"))
    seeds = families["num_seeds"].clip(lower=1)
    binomial = binomial_variance(mean, images)
    df = np.where(std.notna(), seeds - 1.0, 0.0)
    shares = (std.fillna(0.0) ** 2 / binomial).to_numpy(float)
    apart = out_of_line(shares, df, (1 / images).to_numpy(float))
    of_seeds = binomial * pooled(shares, df, apart) / seeds
    doubt = (of_seeds / np.sqrt(pooled_df(df, apart))).to_numpy(float)
    variance = binomial / images + of_seeds
    together = (variance.iloc[0] + variance).to_numpy(float)
    distance = (mean.iloc[0] - mean) / np.sqrt(together)
    df = satterthwaite(together, doubt[0] + doubt)
    hopeless: pd.Series[bool] = distance > -student_quantile(df, level / max(len(mean), 2) ** 2)
    of_folds = (families["num_folds"] > 1) & (families["num_seeds"] == 1)
    return hopeless & ~(of_folds | of_folds.iloc[0])


def _accuracies(kept: pd.DataFrame) -> dict[str, "pd.Series[float] | pd.Series[int]"]:
    """Means weighted by images, so that folds of unequal size make the out-of-fold accuracy; of
    seeds that all have the same number of folds, since the others may have the easy ones.
    """
    images = kept["num_val"].astype(float)
    right = (kept["val_accuracy"].astype(float) * images.fillna(1.0)).groupby(
        [kept["family_id"], kept["seed"]]
    )
    of_images = images.fillna(1.0).groupby([kept["family_id"], kept["seed"]])
    per_seed = right.sum() / of_images.sum()
    if "split.fold" in kept and (kept["split.fold"] > 0).any():
        num_folds = right.size()
        per_seed = per_seed[num_folds == num_folds.groupby(level=0).transform("max")]
    seeds = per_seed.groupby(level=0)
    return {
        "num_seeds": seeds.size(),
        "num_images": images.groupby([kept["family_id"], kept["seed"]])
        .sum()
        .groupby(level=0)
        .max(),
        "family_mean": seeds.mean(),
        "family_std": seeds.std(),
    }


def _fingerprints(kept: pd.DataFrame) -> "pd.Series[str]":
    """Which splits the family's trials validated on, joined by +."""
    pairs = kept[["family_id", "split_fingerprint"]].drop_duplicates()
    several = pairs["family_id"].duplicated(keep=False)
    joined = pairs[several].sort_values("split_fingerprint").groupby("family_id")
    alone = pairs[~several].set_index("family_id")["split_fingerprint"]
    every: pd.Series[str] = pd.concat([alone, joined["split_fingerprint"].agg("+".join)])
    return every


def _statuses(trials: pd.DataFrame) -> "pd.Series[str]":
    """`complete`, or `2 complete, 1 failed`, per family."""
    counts = trials.groupby(["family_id", "status"]).size().unstack(fill_value=0)
    # A board has few different counts, however many families.
    kinds = counts.drop_duplicates()
    told = [_told(kinds.columns, row) for row in kinds.itertuples(index=False)]
    named = kinds.assign(told=told).set_index(list(kinds.columns))["told"]
    texts: pd.Series[str] = counts.join(named, on=list(kinds.columns))["told"]
    return texts


def _told(statuses: Iterable[str], counts: Iterable[int]) -> str:
    parts = {s: n for s, n in zip(statuses, counts, strict=True) if n}
    if sum(parts.values()) == 1:
        return next(iter(parts))
    return ", ".join(f"{n} {s}" for s, n in parts.items())
