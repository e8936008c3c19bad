"""From Tune's events to records: the only writer of records, the leaderboard, and what is kept."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ray._raylet import PlacementGroupID
from ray.tune import Callback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raylab.config.sweep import metric_mode
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import git_sha
from raylab.results.record import Record, Status, record_from
from raylab.sweep.progress import View
from raylab.sweep.queue import Outcome, TrialQueue
from raylab.training.epoch import EpochRow

EPOCH_COLUMNS = tuple(EpochRow.__annotations__)


@dataclass(slots=True)
class Running:
    """What is known of a trial that has not ended."""

    config: TrialConfig
    started_at: datetime
    started_s: float
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error_kind: str | None = None
    error: str | None = None
    placement_group: str | None = None
    """Hex id of what a worker group holds; None for a trial of one process."""


class Collector(Callback):
    """Tune's callback: gathers epochs, writes one record per trial the moment it ends."""

    def __init__(
        self,
        results: ResultsDirectory,
        queue: TrialQueue,
        split_fingerprint: Callable[[TrialConfig], str],
        data_fingerprint: str,
        metric: str,
        keep: int,
        view: View,
    ) -> None:
        self.results, self.queue, self.view = results, queue, view
        self.split_fingerprint, self.data_fingerprint = split_fingerprint, data_fingerprint
        self.metric, self.keep = metric, keep
        self.git_sha = git_sha()
        self.running: dict[str, Running] = {}
        self.records: list[Record] = []
        self.kept: list[tuple[float, str]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its Tuner for a restore that raylab never asks for."""
        return {}

    def resume_kept(self, records: Iterable[Record]) -> None:
        """Count the checkpoints of earlier runs among the best few."""
        held = self.results.checkpoint_ids()
        for record in records:
            if record.trial_id in held:
                self.keep_best(record, outcome_of(record, self.metric))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        identity = trial.config["trial_id"]
        if identity not in self.running:  # else it goes on after its process died
            config = TrialConfig.model_validate(trial.config["config"])
            self.running[identity] = Running(config, datetime.now(UTC), time.monotonic())
            self.view.started(identity, config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        running = self.running[trial.config["trial_id"]]
        if "error_kind" in result:
            running.error_kind, running.error = result["error_kind"], result["error"]
            return
        row = {name: result[name] for name in EPOCH_COLUMNS}
        running.epochs[row["epoch"]] = row
        facts = ("num_train", "num_val", "num_workers", "device")
        running.facts = {name: result[name] for name in facts if name in result}
        running.placement_group = result.get("placement_group")
        self.view.epoch(trial.config["trial_id"], row)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        running = self.running[trial.config["trial_id"]]
        if running.error_kind:
            self.record(trial.config["trial_id"], "failed")
        elif len(running.epochs) == running.config.epochs:
            self.record(trial.config["trial_id"], "complete")
        else:
            self.record(trial.config["trial_id"], "pruned")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_start(iteration, trials, trial)  # its actor may never have started
        running = self.running[trial.config["trial_id"]]
        error = trial.get_pickled_error()
        running.error_kind = type(error).__name__
        lines = str(error).strip().splitlines()
        running.error = lines[-1][:500] if lines else "the trial's process died"
        self.results.write_log(trial.config["trial_id"], str(error))
        self.record(trial.config["trial_id"], "failed")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_start(iteration, trials, trial)
        release_group(self.running[trial.config["trial_id"]])

    def record(self, identity: str, status: Status) -> None:
        """Write how the trial ended, and tell the queue and the view."""
        running = self.running.pop(identity)
        release_group(running)
        record = record_from(
            config=running.config,
            data_fingerprint=self.data_fingerprint,
            split_fingerprint=self.split_fingerprint(running.config),
            epochs=[running.epochs[epoch] for epoch in sorted(running.epochs)],
            status=status,
            metric=self.metric,
            started_at=running.started_at.isoformat(timespec="milliseconds"),
            seconds=time.monotonic() - running.started_s,
            git_sha=self.git_sha,
            error_kind=running.error_kind,
            error=running.error,
            **running.facts,
        )
        self.results.add(record)
        self.records.append(record)
        outcome = outcome_of(record, self.metric)
        self.keep_best(record, outcome)
        self.queue.ended(identity, outcome)
        self.view.ended(record)

    def keep_best(self, record: Record, outcome: Outcome) -> None:
        """Weights stay for the best few complete trials of the whole results directory."""
        if record.status != "complete" or outcome is None:
            self.results.delete_checkpoint(record.trial_id)
            return
        sign = 1 if metric_mode(self.metric) == "max" else -1
        self.kept = [entry for entry in self.kept if entry[1] != record.trial_id]
        self.kept.append((sign * outcome, record.trial_id))
        self.kept.sort(key=lambda entry: (-entry[0], entry[1]))
        for _, identity in self.kept[self.keep :]:
            self.results.delete_checkpoint(identity)
        del self.kept[self.keep :]


def release_group(running: Running) -> None:
    """Free what a trial's worker group holds: when its driver ends early, the group lives on.

    Ray Train's own cleaner asks the dashboard, which a local Ray does not have.
    """
    if running.placement_group is not None:
        group = PlacementGroupID(bytes.fromhex(running.placement_group))
        remove_placement_group(PlacementGroup(group))
        running.placement_group = None


def outcome_of(record: Record, metric: str) -> Outcome:
    """The value that ranks the record; None for a failed trial."""
    if record.status == "failed":
        return None
    value = getattr(record, metric)
    return None if value is None else float(value)
