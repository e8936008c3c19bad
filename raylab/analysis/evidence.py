"""From a results directory to all that a diagnosis looks at, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from raylab.analysis.axes import Axis, drawn_fields, find_axes
from raylab.analysis.families import num_lacking
from raylab.analysis.generations import in_generations, is_population
from raylab.analysis.leaks import Leak, find_leak
from raylab.analysis.measures import MEASURES, ImageScores, image_scores, sign_of
from raylab.analysis.outofsample import OutOfSample, average, better_half
from raylab.analysis.predictions import UNREADABLE, TrialPredictions, load_trial
from raylab.config.sweep import EPOCH_METRICS
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import read

MAX_PREDICTIONS = 500
"""Trials whose predictions are read, the best first: a mean over more does not change."""
SCORE = "score"
"""Of a compared trial: what it is judged by, more being better."""


@dataclass(frozen=True)
class Evidence:
    """What a sweep left, of one state of the data."""

    trials: pd.DataFrame
    """One row per trial: the leaderboard's columns."""
    epochs: pd.DataFrame
    """One row per trial and epoch."""
    predictions: Mapping[str, TrialPredictions]
    """Of complete and pruned trials, by trial_id, as of each one's best epoch."""
    images: pd.DataFrame
    """image_id, path, sha256, …; empty where the results have no images.parquet."""
    leaks: tuple[Leak, ...]
    """One per split."""
    grid: Mapping[str, Any]
    """Empty where the results have no grid.yaml."""
    num_other_data: int = 0
    """Trials left out because they learned from another state of the data."""

    @property
    def metric(self) -> str:
        """What the sweep ranks its trials by."""
        return str(self.grid.get("metric", "val_accuracy"))

    @cached_property
    def judged_by(self) -> str:
        """What axes and levers are judged by: the sweep's metric, where predictions of every trial
        tell how far it hangs on the validation images; else val_accuracy.
        """
        ended = self.trials.loc[self.trials["status"] != "failed", "trial_id"]
        is_told = self.metric in MEASURES and ended.isin(list(self.predictions)).all()
        return self.metric if is_told else "val_accuracy"

    @cached_property
    def image_scores(self) -> dict[str, ImageScores]:
        """What each validation image adds to a trial's score, by trial_id."""
        return {i: image_scores(trial, self.judged_by) for i, trial in self.predictions.items()}

    @cached_property
    def complete(self) -> pd.DataFrame:
        """Trials that ran to their end."""
        return self.trials[self.trials["status"] == "complete"].reset_index(drop=True)

    @cached_property
    def num_pruned(self) -> int:
        """Trials that a scheduler stopped early."""
        return int((self.trials["status"] == "pruned").sum())

    @cached_property
    def common_epoch(self) -> int | None:
        """With pruned trials the last epoch that all reached; None where none was pruned."""
        if not self.num_pruned:
            return None
        ended = self.trials[self.trials["status"] != "failed"]
        return max(1, int(ended["num_epochs"].min()))

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The trials that axes are judged by, what they are judged by in `score`.

        Without pruned trials: complete ones at their best epoch. With them: all at the last epoch
        that all reached, since those that survived were picked by their accuracy. A population's
        say of what they began with only which generation they are. `history`, where epochs were
        recorded: one number for all that a trial measured in all of them.
        """
        compared = self._compared()
        if self.epochs.empty:
            return compared
        return compared.assign(history=compared["trial_id"].map(self._histories()))

    def _histories(self) -> "pd.Series[int]":
        """By trial_id."""
        ordered = self.epochs.sort_values(["trial_id", "epoch"])
        measured = ordered[["epoch", *EPOCH_METRICS]]
        rows = pd.util.hash_pandas_object(measured, index=False)
        histories: pd.Series[int] = rows.groupby(ordered["trial_id"]).agg(lambda h: hash(tuple(h)))
        return histories

    def _compared(self) -> pd.DataFrame:
        sign = sign_of(self.judged_by)
        if self.common_epoch is None:
            complete = self.complete
            if is_population(self.grid):
                named = in_generations(self.trials)
                complete = named[named["status"] == "complete"].reset_index(drop=True)
            return complete.assign(**{SCORE: sign * complete[self.judged_by]})
        at = self.epochs[self.epochs["epoch"] == self.common_epoch]
        values = sign * at.set_index("trial_id")[self.judged_by]
        ended = self.trials[self.trials["status"] != "failed"]
        ended = ended.assign(**{SCORE: ended["trial_id"].map(values)})
        return ended.dropna(subset=[SCORE]).reset_index(drop=True)

    @cached_property
    def axes(self) -> list[Axis]:
        """What differs between the compared trials."""
        return find_axes(self.compared, drawn_fields(self.grid))

    @cached_property
    def best_family(self) -> pd.DataFrame:
        """The complete trials of the family that is best by the sweep's metric, or by accuracy
        where that measures no validation images.
        """
        metric = self.metric if self.metric in MEASURES else "val_accuracy"
        families = self.complete.groupby("family_id")
        means = sign_of(metric) * families[metric].mean()
        if "split.folds" in self.complete:
            folds = families.agg({"split.folds": "first", "split.fold": "nunique"})
            lacking = num_lacking(folds.rename(columns={"split.fold": "num_folds"}))
            means = means[lacking == lacking.min()]  # what others have may be the easy folds
        return self.complete[self.complete["family_id"] == means.idxmax()]

    @cached_property
    def opinion(self) -> OutOfSample | None:
        """The mean of the better half of the configs; None without predictions."""
        return self._average(better_half(self._predicted))

    @cached_property
    def all_opinions(self) -> OutOfSample | None:
        """The mean of all complete trials."""
        return self._average(list(self._predicted["trial_id"]))

    @cached_property
    def by_family(self) -> list[OutOfSample]:
        """One opinion per family."""
        families = self._predicted.groupby("family_id", sort=False)["trial_id"]
        opinions = (self._average(list(ids)) for _, ids in families)
        return [opinion for opinion in opinions if opinion is not None]

    @property
    def _predicted(self) -> pd.DataFrame:
        return self.complete[self.complete["trial_id"].isin(list(self.predictions))]

    def _average(self, trial_ids: list[str]) -> OutOfSample | None:
        if not trial_ids:
            return None
        copied_of = {leak.split_fingerprint: leak.copied_val for leak in self.leaks}
        splits = self.trials.set_index("trial_id")["split_fingerprint"]
        copied = {i: copied_of.get(str(splits[i]), frozenset()) for i in trial_ids}
        return average([self.predictions[i] for i in trial_ids], copied)


def gather(results: ResultsDirectory) -> Evidence:
    """Reads the directory; Refused if it holds no complete trial."""
    trials = read([results.location])
    complete = trials[trials["status"] == "complete"]
    if complete.empty:
        text = f"none of its {len(trials)} trials is complete; nothing can be said yet"
        raise Refused([Problem(results.location, text)], "the results", "no diagnosis was made")
    current = complete["data_fingerprint"].mode()[0]
    same = trials[trials["data_fingerprint"] == current].reset_index(drop=True)
    images = _images(results)
    fingerprints = sorted(set(same["split_fingerprint"].dropna()))
    leaks = [
        find_leak(name, images, results.split(name).to_pandas())
        for name in fingerprints
        if not images.empty and results.has_split(name)
    ]
    epochs = results.epochs().to_pandas()
    return Evidence(
        trials=same,
        epochs=epochs[epochs["trial_id"].isin(same["trial_id"])],
        predictions=_predictions(results, same[same["status"] != "failed"]),
        images=images,
        leaks=tuple(leaks),
        grid=_grid(results),
        num_other_data=len(trials) - len(same),
    )


def _predictions(results: ResultsDirectory, ended: pd.DataFrame) -> dict[str, TrialPredictions]:
    """Complete trials before pruned ones, and the best first."""
    ordered = ended.sort_values(["status", "val_accuracy"], ascending=[True, False])
    found = {}
    for trial_id in ordered["trial_id"][:MAX_PREDICTIONS]:
        try:
            found[str(trial_id)] = load_trial(results, str(trial_id))
        except UNREADABLE:
            continue
    return found


def _images(results: ResultsDirectory) -> pd.DataFrame:
    try:
        table: pd.DataFrame = results.images().to_pandas()
    except FileNotFoundError:
        return pd.DataFrame(columns=["image_id", "path", "label", "sha256"])
    return table


def _grid(results: ResultsDirectory) -> dict[str, Any]:
    try:
        return results.grid()
    except FileNotFoundError:
        return {}
