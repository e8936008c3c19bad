"""From families and their stored predictions to intervals, marks of ties and the winner's score."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raylab.analysis.families import clearly_worse, measured, num_lacking
from raylab.analysis.joint import FamilyScore, JointScores, joint, score
from raylab.analysis.predictions import UNREADABLE, TrialPredictions, load_trial
from raylab.analysis.ties import LEVEL, tied_with_best
from raylab.analysis.winner import corrected_best
from raylab.results.directory import ResultsDirectory

# A board of a million trials must not read a million files.
MAX_FAMILIES = 50
MAX_FILES = 300
NUM_READERS = 8
# What the families that are out of the question may cost of LEVEL.
SCREEN_LEVEL = 0.001

NOT_COMPARED = "?"
FOLD = "split.fold"
OF_BEST_EPOCH = (
    "each is measured in its best epoch, picked on the same images: that luck is still in it"
)


@dataclass(frozen=True)
class Comparison:
    """The families with `tied` and `corrected`, and what has to be said of them."""

    families: pd.DataFrame
    """As of `by_family`; family_low and family_high from predictions where those were read.
    `tied`: yes (may be the best), no, ? (validated on other images, or stopped early), or None (no
    predictions, or not read).
    `corrected`: the best family's mean corrected for having been picked, None elsewhere."""
    notes: tuple[str, ...]
    """Lines for below the table."""
    unread: frozenset[str] = frozenset()
    """family_ids that are neither shown to be worse nor read, being too many."""
    num_rivals: int = 0
    """The families that the correction takes the best to have been picked from."""
    is_cut: bool = False
    """Whether only the best of them were paired, so that `corrected` is rather too high."""


def compare(
    families: pd.DataFrame, trials: pd.DataFrame, folders: Mapping[str, ResultsDirectory]
) -> Comparison:
    """Each family against the first of the frame, in pairs on the same images.

    `families` is ranked by family_mean, `trials` the frame it came from, `folders` the results
    directory of each `sweep`. Files that are missing or damaged give no mark. Families of which a
    scheduler stopped trials early are not compared: those have learned for less long, and those
    that were left to learn were picked by their accuracy.
    """
    marked = families.assign(tied=None, corrected=np.nan).astype({"tied": "object"})
    ranked = families[families["family_mean"].notna()]
    if ranked.empty:
        return Comparison(marked, ())
    same = ranked["split_fingerprint"] == ranked["split_fingerprint"].iloc[0]
    early = stopped_early(ranked)
    rivals = ranked[same & (~early | (ranked["family_id"] == ranked["family_id"].iloc[0]))]
    marked.loc[ranked.index.difference(rivals.index), "tied"] = NOT_COMPARED
    hopeless = clearly_worse(rivals, SCREEN_LEVEL)
    marked.loc[hopeless.index[hopeless], "tied"] = "no"
    wanted = _best(rivals[~hopeless])
    read = _scores(wanted, trials, folders)
    unread = frozenset(rivals["family_id"][~hopeless]) - set(wanted["family_id"])
    is_cut = len(read) < len(rivals) - int(hopeless.sum())
    if rivals["family_id"].iloc[0] in read:
        notes = _mark(marked, rivals, read, is_cut, trials)
        if len(rivals) < 2 <= len(ranked):  # the only one that can be the best, of several
            marked.loc[rivals.index, "tied"] = "yes"
    else:
        notes = [OF_BEST_EPOCH, "nothing is paired: the best has no stored predictions"]
    if unread:
        notes.append(f"tied blank: {len(unread):,} more were not read; only the best are compared")
    notes += _remarks(marked, ranked, early)
    others = _best(ranked[~same & (ranked["num_trials"] > 1)])
    for _, alike in others.groupby("split_fingerprint"):
        _set_intervals(marked, _scores(alike, trials, folders).values())
    return Comparison(marked, tuple(notes), unread, _num_compared(marked, rivals), is_cut)


def _mark(
    marked: pd.DataFrame,
    rivals: pd.DataFrame,
    read: Mapping[str, FamilyScore],
    is_cut: bool,
    trials: pd.DataFrame,
) -> list[str]:
    """Sets interval, `tied` and `corrected` of the families that were read; the notes on them."""
    best_id = rivals["family_id"].iloc[0]
    images = read[best_id].image_ids
    same = [f for f in read.values() if np.array_equal(f.image_ids, images)]
    other = set(read) - {f.family_id for f in same}  # one split, and yet images are missing
    marked.loc[marked["family_id"].isin(other), "tied"] = NOT_COMPARED
    scores = _set_intervals(marked, same)
    if scores is None or len(rivals) < 2:
        return [OF_BEST_EPOCH]
    rng = np.random.default_rng(0)  # the same board reads the same twice
    tied = tied_with_best(scores, rng)
    for family_id, is_tied in zip(scores.family_ids, tied, strict=True):
        marked.loc[marked["family_id"] == family_id, "tied"] = "yes" if is_tied else "no"
    best = marked["family_id"] == best_id
    corrected = corrected_best(scores, rng)
    marked.loc[best, "corrected"] = corrected.score
    mean = marked.loc[best, "family_mean"].iloc[0]
    # The best of those that look best: what is left of their luck cannot be taken off.
    cut = f" ({len(same):,} could be paired, so rather too high)" if is_cut else ""
    return [
        f"best {mean:.4f}; corrected for being picked out of {_num_compared(marked, rivals):,}"
        f"{cut}: {corrected.score:.4f} (standard error {corrected.standard_error:.4f})",
        OF_BEST_EPOCH,
        f"tied yes: may be the best, by paired tests on the same {scores.num_images:,} images "
        f"(family-wise error {LEVEL:.0%})",
        *_strays(trials, scores),
    ]


def _num_compared(marked: pd.DataFrame, rivals: pd.DataFrame) -> int:
    """The rivals that validated the best one's images."""
    return int((marked.loc[rivals.index, "tied"] != NOT_COMPARED).sum())


def _strays(trials: pd.DataFrame, scores: JointScores) -> list[str]:
    """Lines on the trials that set families out of line: of each the farthest from the mean of its
    seeds on one fold or, without a second seed, from the median course of all over the folds.
    """
    kept = measured(trials[trials["family_id"].isin(scores.family_ids)]).drop_duplicates("trial_id")
    accuracy, family = kept["val_accuracy"], kept["family_id"]
    fold = kept[FOLD].fillna(0) if FOLD in kept else pd.Series(0, kept.index)
    seeds = accuracy.groupby([family, fold])
    has_seeds = seeds.transform("size").groupby(family).transform("max") > 1
    course = accuracy - accuracy.groupby(family).transform("mean")
    of_fold = course - course.groupby(fold).transform("median")
    off = (accuracy - seeds.transform("mean")).where(has_seeds, of_fold).round(9)
    ordered = kept.assign(has_seeds=has_seeds, off=off, near=-off.abs())
    ordered = ordered.sort_values(["near", "off"])  # of two as far off, the worse one
    apart = ordered["family_id"].isin(np.array(scores.family_ids)[scores.apart])
    far = ordered[apart].drop_duplicates("family_id").sort_values("trial_id")
    return [
        *_far_off("the other seeds of its config, which", far[far["has_seeds"]]),
        *_far_off("what other configs reach on its fold; its config", far[~far["has_seeds"]]),
    ]


def _far_off(text: str, trials: pd.DataFrame) -> list[str]:
    told = [f"{row.trial_id} ({row.val_accuracy:.4f})" for row in trials.itertuples()]
    return [f"far off {text} is judged apart: {', '.join(told)}"] if told else []


def _set_intervals(marked: pd.DataFrame, scores: Iterable[FamilyScore]) -> JointScores | None:
    """The intervals with luck of images and seeds, where all families saw the same images."""
    found = list(scores)
    if not found or any(not np.array_equal(f.image_ids, found[0].image_ids) for f in found):
        return None
    together = joint(found)
    for family_id, low, high in zip(together.family_ids, *together.intervals(), strict=True):
        marked.loc[marked["family_id"] == family_id, ["family_low", "family_high"]] = low, high
    return together


def _best(families: pd.DataFrame) -> pd.DataFrame:
    """The first of them, as many as are read."""
    first = families.head(MAX_FAMILIES)
    return first[first["num_trials"].cumsum() <= MAX_FILES]


def _scores(
    families: pd.DataFrame, trials: pd.DataFrame, folders: Mapping[str, ResultsDirectory]
) -> dict[str, FamilyScore]:
    """Each of the families whose trials all have predictions, in order."""
    columns = ["sweep", "trial_id", "family_id", "status", "val_accuracy"]
    rows = measured(trials.loc[trials["family_id"].isin(families["family_id"]), columns])
    rows = rows.drop_duplicates("trial_id")
    places = [folders[sweep] for sweep in rows["sweep"]]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        predictions = list(pool.map(_load, places, rows["trial_id"]))
    members: dict[str, list[TrialPredictions | None]] = {}
    for family_id, loaded in zip(rows["family_id"], predictions, strict=True):
        members.setdefault(str(family_id), []).append(loaded)
    return {
        str(family_id): score(str(family_id), [trial for trial in found if trial is not None])
        for family_id in families["family_id"]
        if None not in (found := members[str(family_id)])
    }


def _load(results: ResultsDirectory, trial_id: str) -> TrialPredictions | None:
    try:
        found = load_trial(results, trial_id)
    except UNREADABLE:  # no mark, but still a table
        return None
    return found if len(found.image_ids) else None


def stopped_early(families: pd.DataFrame) -> "pd.Series[bool]":
    """Families of which a scheduler stopped a trial; of others all that ended ran to their end."""
    return families["status"].str.contains("pruned")


def _remarks(marked: pd.DataFrame, ranked: pd.DataFrame, early: "pd.Series[bool]") -> list[str]:
    remarks = []
    num_early = int(early.iloc[1:].sum())
    if num_early:
        remarks.append(
            f"tied ?: {num_early:,} of {len(ranked):,} were stopped early, or some of their seeds "
            "were, and are not compared"
        )
    if early.iloc[0] and "complete" in ranked["status"].iloc[0]:
        remarks.append(
            "the best's mean is of the seeds that were not stopped early, picked by their "
            "accuracy: it is too high"
        )
    lacking = num_lacking(ranked)
    num_partial = int((lacking > lacking.min()).sum())  # folds that none has are not asked for
    if num_partial:
        remarks.append(
            f"{num_partial:,} of {len(ranked):,} lack a fold: what is left may be the easy ones, "
            "so that they rank after the others"
        )
    others = ranked.index[~early]
    num_other = int((marked.loc[others, "tied"] == NOT_COMPARED).sum())
    if num_other:
        remarks.append(
            f"tied ?: {num_other:,} of {len(ranked):,} validated other images than the best "
            "(another split), and are not compared in pairs"
        )
    if (ranked["num_trials"] == 1).all():
        remarks.append("one seed each: the luck of the seed is in no interval and no mark")
    return remarks
