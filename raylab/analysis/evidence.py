"""From a results directory to all that a diagnosis looks at, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from raylab.analysis.axes import Axis, find_axes
from raylab.analysis.generations import in_generations, is_population
from raylab.analysis.leaks import Leak, find_leak
from raylab.analysis.outofsample import OutOfSample, average, better_half
from raylab.analysis.predictions import UNREADABLE, TrialPredictions, load_trial
from raylab.config.sweep import EPOCH_METRICS
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import read

MAX_PREDICTIONS = 500
"""Trials whose predictions are read, the best first: a mean over more does not change."""


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
        """The trials that axes are judged by, their accuracy in `compared_accuracy`.

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
        if self.common_epoch is None and is_population(self.grid):
            complete = in_generations(self.trials).query("status == 'complete'")
            return complete.assign(compared_accuracy=complete["val_accuracy"]).reset_index(
                drop=True
            )
        if self.common_epoch is None:
            return self.complete.assign(compared_accuracy=self.complete["val_accuracy"])
        at = self.epochs[self.epochs["epoch"] == self.common_epoch]
        values = at.set_index("trial_id")["val_accuracy"]
        ended = self.trials[self.trials["status"] != "failed"]
        ended = ended.assign(compared_accuracy=ended["trial_id"].map(values))
        return ended.dropna(subset=["compared_accuracy"]).reset_index(drop=True)

    @cached_property
    def axes(self) -> list[Axis]:
        """What differs between the compared trials."""
        return find_axes(self.compared)

    @cached_property
    def best_family(self) -> pd.DataFrame:
        """The complete trials of the family with the best mean accuracy."""
        means = self.complete.groupby("family_id")["val_accuracy"].mean()
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
