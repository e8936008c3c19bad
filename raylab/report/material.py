"""From results directories to all that a report shows: trials by the data they learned from."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from raylab.analysis.board import assess
from raylab.analysis.comparison import Comparison
from raylab.analysis.diagnose import Diagnosis, diagnose
from raylab.analysis.evidence import Evidence, gather
from raylab.analysis.families import measured
from raylab.analysis.predictions import UNREADABLE, TrialPredictions, load_trial
from raylab.config.expand import count_trials
from raylab.config.findings import Findings
from raylab.config.sections import read_sections
from raylab.config.sweep import SweepConfig
from raylab.errors import RaylabError
from raylab.report.wording import config_text, rows_of
from raylab.results.directory import GRID, ResultsDirectory
from raylab.results.leaderboard import differing_columns, ranked, read, sweep_folders


@dataclass(frozen=True)
class Sweep:
    """One results directory, as far as its trials learned from one state of the data."""

    name: str
    results: ResultsDirectory
    trials: pd.DataFrame
    """The leaderboard's rows, ranked."""
    epochs: pd.DataFrame
    """One row per trial and epoch."""
    grid: Mapping[str, Any]
    """Empty where the results have no grid.yaml."""
    config: SweepConfig | None
    """None where there is no grid, or one that this raylab does not accept."""
    evidence: Evidence | None
    """None where no trial is complete."""
    diagnosis: Diagnosis | None
    num_planned: int | None
    """Of the whole sweep; None where that is not known (Optuna may draw a config twice, which runs
    once), or some learned from other data.
    """

    @property
    def num_missing(self) -> int:
        """Planned trials that have not ended; 0 where it is not known what was planned."""
        return max(0, (self.num_planned or 0) - len(self.trials))


@dataclass(frozen=True)
class Part:
    """Everything that learned from one state of the data: what may be ranked together."""

    data_fingerprint: str
    metric: str
    sweeps: tuple[Sweep, ...]
    trials: pd.DataFrame
    """Of all sweeps, ranked; a trial that stands in several sweeps stands several times."""
    comparison: Comparison

    @property
    def families(self) -> pd.DataFrame:
        """Ranked families with their marks."""
        return self.comparison.families

    @cached_property
    def fields(self) -> list[str]:
        """In which the families differ."""
        return differing_columns(self.families)

    @cached_property
    def names(self) -> dict[str, str]:
        """Per family_id its config in words."""
        several = len(self.sweeps) > 1
        return {
            str(row["family_id"]): config_text(row, self.fields, several)
            for row in rows_of(self.families)
        }

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Of all sweeps, each trial once."""
        together = pd.concat([sweep.epochs for sweep in self.sweeps], ignore_index=True)
        return together.drop_duplicates(["trial_id", "epoch"])

    @cached_property
    def winner(self) -> "pd.Series[Any] | None":
        """The first family; None where none was measured."""
        known = self.families[self.families["num_trials"] > 0]
        return None if known.empty else known.iloc[0]

    @cached_property
    def winner_trials(self) -> pd.DataFrame:
        """The trials that the winner is measured by; none where nothing was measured."""
        if self.winner is None:
            return self.trials.head(0)
        own = self.trials[self.trials["family_id"] == self.winner["family_id"]]
        return measured(own.drop_duplicates("trial_id"))

    @cached_property
    def winner_predictions(self) -> list[TrialPredictions]:
        """Of the winner's trials, as far as they are kept."""
        own = self.winner_trials
        places = {sweep.name: sweep.results for sweep in self.sweeps}
        keys = zip(own["sweep"], own["trial_id"], strict=True)
        found = [_predictions(places[str(sweep)], str(trial_id)) for sweep, trial_id in keys]
        return [trial for trial in found if trial is not None]

    @cached_property
    def field_predictions(self) -> dict[str, list[TrialPredictions]]:
        """Per family_id what its complete trials said, as far as the diagnosis read it."""
        found: dict[str, dict[str, TrialPredictions]] = {}
        for sweep in self.sweeps:
            if sweep.evidence is None:
                continue
            complete = sweep.trials[sweep.trials["status"] == "complete"]
            families = complete.set_index("trial_id")["family_id"].to_dict()
            read = sweep.evidence.predictions
            for trial_id, trial in ((i, read[i]) for i in read if i in families):
                found.setdefault(str(families[trial_id]), {})[trial_id] = trial
        return {family_id: list(trials.values()) for family_id, trials in found.items()}


def read_parts(locations: Sequence[str]) -> list[Part]:
    """The trials of these directories or URIs, one part per state of the data, most trials first.

    Refused if one of them holds no trial that has ended.
    """
    frame = read(locations)
    folders = sweep_folders(locations)
    directories = [_directory(name, results) for name, results in folders.items()]
    metric = str(directories[0].grid.get("metric", "val_accuracy"))
    sizes = frame.groupby("data_fingerprint").size().sort_values(ascending=False, kind="stable")
    parts = []
    for fingerprint in sizes.index:
        own = ranked(frame[frame["data_fingerprint"] == fingerprint], metric)
        sweeps = [_sweep(each, own[own["sweep"] == each.name]) for each in directories]
        present = tuple(sweep for sweep in sweeps if len(sweep.trials))
        parts.append(Part(str(fingerprint), metric, present, own, assess(own, folders, metric)))
    return parts


@dataclass(frozen=True)
class _Directory:
    """All of one results directory, whatever data its trials learned from."""

    name: str
    results: ResultsDirectory
    grid: dict[str, Any]
    num_trials: int
    epochs: pd.DataFrame
    evidence: Evidence | None
    diagnosis: Diagnosis | None


def _directory(name: str, results: ResultsDirectory) -> _Directory:
    try:
        grid = results.grid()
    except (FileNotFoundError, ValueError, TypeError):
        grid = {}
    statuses = results.leaderboard()["status"].to_pylist()
    evidence = gather(results) if "complete" in statuses else None
    diagnosis = None if evidence is None else diagnose(evidence)
    epochs = results.epochs().to_pandas()
    return _Directory(name, results, grid, len(statuses), epochs, evidence, diagnosis)


def _sweep(whole: _Directory, trials: pd.DataFrame) -> Sweep:
    """The part of a directory that these trials are.

    Its diagnosis is of the data that most trials learned from, and belongs to these alone.
    """
    diagnosed = set() if whole.evidence is None else set(whole.evidence.trials["trial_id"])
    is_diagnosed = not diagnosed.isdisjoint(trials["trial_id"])
    config = _config(whole.grid)
    return Sweep(
        name=whole.name,
        results=whole.results,
        trials=trials,
        epochs=whole.epochs[whole.epochs["trial_id"].isin(trials["trial_id"])],
        grid=whole.grid,
        config=config,
        evidence=whole.evidence if is_diagnosed else None,
        diagnosis=whole.diagnosis if is_diagnosed else None,
        num_planned=_planned(config) if len(trials) == whole.num_trials else None,
    )


def _config(grid: dict[str, Any]) -> SweepConfig | None:
    """The grid as a sweep, without looking whether its data is still where it was."""
    if "data" not in grid:
        return None
    findings = Findings(GRID)
    sweep = read_sections(copy.deepcopy(grid), Path(), findings)
    return None if findings.problems else sweep


def _planned(config: SweepConfig | None) -> int | None:
    if config is None or config.search.kind == "optuna":
        return None
    try:
        total = count_trials(config)
    except RaylabError:
        return None
    return min(total, config.budget.trials or total)


def _predictions(results: ResultsDirectory, trial_id: str) -> TrialPredictions | None:
    try:
        found = load_trial(results, trial_id)
    except UNREADABLE:  # a report without it
        return None
    return found if len(found.image_ids) else None
