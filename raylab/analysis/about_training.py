"""Why does it stop here: too little or too much learned, more epochs, the luck of the seed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raylab.analysis.axes import REPEATS
from raylab.analysis.curves import MIN_EPOCHS, Trend, extrapolate, last_trend
from raylab.analysis.evidence import Evidence
from raylab.analysis.finding import Finding, Severity, points, signed, span
from raylab.analysis.generations import is_population
from raylab.analysis.seeds import SeedSpread, seed_spread
from raylab.analysis.verdicts import Verdict, without_copies
from raylab.results.record import CONFIG_COLUMNS

WIDE_GAP = 0.1
LOW_TRAIN = 0.9  # of what can be learned
BY_HEART = 0.02
LATE_LOSS_RISE = 1.1
WORTH_MORE_EPOCHS = 0.005


def fit_findings(evidence: Evidence, ceiling: float = 1.0) -> list[Finding]:
    """Under- or overfitting of the best config, from its gap and its losses.

    ceiling: what a perfect classifier reaches against these labels; nobody has to learn more.
    """
    best = evidence.best_family
    train, val = best["train_accuracy"].mean(), best["val_accuracy"].mean()
    if pd.isna(train):
        return []
    if _is_mixed(best.iloc[0]):
        return [_untold_fit(float(train), float(val))]
    gap = float(train - val)
    losses = _mean_curve(evidence)["val_loss"]  # none in a copy that came without its epochs
    loss_rise = float(losses.iloc[-1] / losses.min()) if len(losses) else None
    severity: Severity = "warning" if gap > WIDE_GAP else "note"
    has_learned = train > LOW_TRAIN * ceiling
    if gap > WIDE_GAP and has_learned:
        verdict = "it overfits: it knows its training images and not the others"
    elif gap > WIDE_GAP:
        verdict = "it overfits, and has not even learned its training images"
    elif not has_learned:
        verdict = "it does not overfit; it has not learned what it trains on (underfits)"
    else:
        verdict = "it fits both alike"
    if train > ceiling + BY_HEART:
        verdict += ", wrong labels by heart among them"
    sentence = (
        f"The best config is right on {points(train)} % of its training images and on "
        f"{points(val)} % of the validation images, a gap of {points(gap)} points: {verdict}."
    )
    if loss_rise is not None and loss_rise > LATE_LOSS_RISE:
        sentence += (
            f" Its val_loss ends {points(loss_rise - 1, 0)} % above its lowest: it grows ever "
            "surer of its mistakes."
        )
    if best.iloc[0].get("augment", "none") != "none":  # counted while learning, on what it saw
        sentence += " (Training accuracy is counted on augmented images; the true gap is wider.)"
    numbers = {
        "train_accuracy": train,
        "val_accuracy": val,
        "gap": gap,
        "val_loss_rise": loss_rise,
        "has_learned": has_learned,
    }
    return [Finding("fit", sentence, numbers, severity, "medium")]


def _untold_fit(train: float, val: float) -> Finding:
    sentence = (
        f"Whether the best config fits cannot be told: it learns from mixed images, and is right "
        f"on {points(train)} % of those, {points(val)} % of the validation images."
    )
    numbers = {"train_accuracy": train, "val_accuracy": val}
    return Finding("fit", sentence, numbers, "note", "high")


def _is_mixed(trial: "pd.Series[Any]") -> bool:
    """Mixed images have two labels, and a guess is right on the heavier one only."""
    return any(float(str(trial.get(name) or 0)) > 0 for name in ("mixup", "cutmix"))


def curve_findings(evidence: Evidence) -> list[Finding]:
    """Whether the best config still climbs, and what more epochs would bring."""
    curve = _mean_curve(evidence)
    accuracies = curve["val_accuracy"].to_numpy(dtype=np.float64)
    num = len(accuracies)
    if num == 0:
        text = "The epochs of the best config are not kept here: its curve cannot be told."
        return [Finding("curve", text, {"num_epochs": num}, "note", "low")]
    if num < MIN_EPOCHS:
        text = f"{num} epochs are too few to say what more would bring ({MIN_EPOCHS} are needed)."
        return [Finding("curve", text, {"num_epochs": num}, "note", "low")]
    trend = last_trend(accuracies)
    if trend.is_falling:
        return [_falls(evidence, trend, num)]
    more = max(1, num // 2)
    ahead = extrapolate(accuracies, more)
    is_worth_it = ahead.low > WORTH_MORE_EPOCHS
    if trend.is_rising:
        climbs = "still climbs"
    elif is_worth_it:
        climbs = "climbs on the whole, though its last epochs alone are too noisy to show it"
    else:
        climbs = "no longer climbs beyond its noise"
    sentence = (
        f"{_ended(evidence, trend, num, climbs)} {more} more epochs: {signed(ahead.gain)} "
        f"{span(ahead.low, ahead.high)} points if the curve goes on as it went."
    )
    if evidence.best_family.iloc[0].get("lr_schedule") == "cosine":
        sentence += (
            " (Its learning rate ends at 0, which flattens every curve: a longer run stretches the "
            "schedule and may gain more.)"
        )
    numbers = _ending(evidence, trend, num) | {
        "more_epochs": more,
        "gain": [ahead.gain, ahead.low, ahead.high],
        "limit": ahead.limit,
        "form": ahead.form,
    }
    severity: Severity = "warning" if is_worth_it else "note"
    return [Finding("curve", sentence, numbers, severity, "medium")]


def _falls(evidence: Evidence, trend: Trend, num_epochs: int) -> Finding:
    """No extrapolation: its forms climb or stay, and would promise 0 without a doubt."""
    sentence = (
        f"{_ended(evidence, trend, num_epochs, 'falls')} Its best lies behind it: fewer epochs, or "
        "patience, would reach that too."
    )
    return Finding("curve", sentence, _ending(evidence, trend, num_epochs), "note", "medium")


def _ended(evidence: Evidence, trend: Trend, num_epochs: int, does: str) -> str:
    return (
        f"After {num_epochs} epochs the best config {does} ({signed(trend.slope, 2)} points per "
        f"epoch {span(trend.low, trend.high, 2)}); {_num_best_at_end(evidence)} of "
        f"{len(evidence.complete)} trials were best in their last epoch."
    )


def _ending(evidence: Evidence, trend: Trend, num_epochs: int) -> dict[str, Any]:
    return {
        "num_epochs": num_epochs,
        "slope_per_epoch": [trend.slope, trend.low, trend.high],
        "num_best_at_last_epoch": _num_best_at_end(evidence),
        "num_trials": len(evidence.complete),
    }


def _num_best_at_end(evidence: Evidence) -> int:
    return int((evidence.complete["best_epoch"] == evidence.complete["num_epochs"]).sum())


def seed_findings(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Finding]:
    """How far the seed alone moves the accuracy, and how many configs that leaves in doubt.

    Not where trials were stopped early: the seeds that were left scatter less than seeds do.
    """
    if evidence.num_pruned:
        sentence = (
            "How far the seed moves the accuracy is not told: trials were stopped early by their "
            "accuracy, and what is left scatters less than seeds do."
        )
        return [Finding("seeds", sentence, {"num_pruned": evidence.num_pruned}, "note", "high")]
    complete = without_copies(evidence.complete, evidence.compared, verdicts)
    config = [name for name in CONFIG_COLUMNS if name in complete and name not in REPEATS]
    families = _families(complete, config)
    spread = seed_spread(complete, config, "val_accuracy")
    if spread is None:
        return [_without_repeats(evidence, families)]
    typical = int(families["num_trials"].median())
    within = spread.of_difference(typical)
    close = int((families["mean"] >= families["mean"].max() - within).sum()) - 1
    if spread.sd == 0:
        return [_agreeing_seeds(spread, close, len(families))]
    sentence = (
        f"The seed alone moves the accuracy by ±{points(spread.sd, 2)} points (standard deviation "
        f"{span(spread.low, spread.high, 2)}, {spread.num_configs} configs): with {typical} trials "
        f"each, it alone brings two equal configs up to {points(within)} points apart, and the "
        f"validation images come on top. {close} of {len(families) - 1} other configs lie within "
        "that of the best."
    )
    sentence += _left_out(spread)
    numbers = {
        "sd": spread.sd,
        "sd_interval": [spread.low, spread.high],
        "df": spread.df,
        "num_apart": spread.num_apart,
        "seed_difference": within,
        "num_close_to_best": close,
        "num_configs": len(families),
    }
    severity: Severity = "warning" if close else "note"
    return [Finding("seeds", sentence, numbers, severity, "high")]


def _families(complete: pd.DataFrame, config: list[str]) -> pd.DataFrame:
    """Per config its mean over all images, as on the board, and how many trials and images."""
    weight = complete["num_val"].astype(float).fillna(1.0)
    weighed = complete.assign(weight=weight, right=weight * complete["val_accuracy"])
    families = weighed.groupby(config, dropna=False).agg(
        num_trials=("seed", "size"),
        num_val=("num_val", "sum"),
        weight=("weight", "sum"),
        right=("right", "sum"),
    )
    return families.assign(mean=families["right"] / families["weight"])


def _agreeing_seeds(spread: SeedSpread, num_equal: int, num_configs: int) -> Finding:
    """Few validation images, or models that are right on all: the seeds' luck does not show."""
    sentence = (
        f"Each config's seeds agree to the last image ({spread.num_configs} configs): how far the "
        f"seed moves the accuracy does not show on these validation images. {num_equal} of "
        f"{num_configs - 1} other configs score the same as the best."
    )
    sentence += _left_out(spread)
    numbers = {
        "sd": spread.sd,
        "df": spread.df,
        "num_apart": spread.num_apart,
        "num_close_to_best": num_equal,
        "num_configs": num_configs,
    }
    return Finding("seeds", sentence, numbers, "note", "high")


def _left_out(spread: SeedSpread) -> str:
    groups = "group" if spread.num_apart == 1 else "groups"
    text = f" Left out: {spread.num_apart} {groups} of seeds with one far off the others."
    return text * (spread.num_apart > 0)


def _without_repeats(evidence: Evidence, families: pd.DataFrame) -> Finding:
    """No two of a family's trials share a fold: each validated images of its own."""
    num_val, accuracy = float(families["num_val"].median()), float(families["mean"].max())
    error = math.sqrt(accuracy * (1 - accuracy) / num_val) if num_val else math.nan
    advice = "Write seeds: [0, 1, 2]."
    if is_population(evidence.grid):
        advice = "Run it with another first seed, and see where that population ends."
    told = "luck and merit cannot be told apart"
    if families["num_trials"].max() > 1:
        told = "the luck of the training is told from folds alone, as on the leaderboard"
    sentence = (
        f"No config ran with two seeds, so that {told}; the "
        f"validation images alone make ±{points(1.96 * error)} points. {advice}"
    )
    return Finding("seeds", sentence, {"standard_error": error}, "warning", "high")


def _mean_curve(evidence: Evidence) -> pd.DataFrame:
    """Per epoch the best config's means over its trials, as far as all of them ran."""
    ids = evidence.best_family["trial_id"]
    own = evidence.epochs[evidence.epochs["trial_id"].isin(ids)]
    counts = own.groupby("epoch")["trial_id"].nunique()
    columns = ["val_accuracy", "val_loss", "train_accuracy"]
    means = own.groupby("epoch")[columns].mean()
    return means[counts == len(ids)].dropna(subset=["val_accuracy"])
