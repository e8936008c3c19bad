"""From Tune's events to records: the only writer of records, the leaderboard, and what is kept."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ray
from ray._raylet import PlacementGroupID
from ray.tune import Callback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raylab.config.trial import TrialConfig
from raylab.errors import CannotWrite
from raylab.events.progress import View
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import git_sha
from raylab.results.record import Record, Status, record_from
from raylab.storage import cannot_write
from raylab.sweep.alarm import DeadAxes
from raylab.sweep.failures import (
    MAX_FAILED_FROM_START,
    MAX_LOSSES,
    MAX_RESTARTS,
    TIMEOUT,
    Beginning,
    Failure,
    failure_in,
    last_story,
)
from raylab.sweep.lock import Hold
from raylab.sweep.queue import TrialQueue, outcome_of
from raylab.sweep.shelf import Shelf
from raylab.training.epoch import EpochRow

EPOCH_COLUMNS = tuple(EpochRow.__annotations__)
FORGOTTEN = {"forgotten": True}
"""In place of a report: of a trial without any, Tune would print a line."""


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
    may_heal: bool = True
    """Whether another try may do better once somebody mended the machine: no fault of its config.
    """
    trial: Any = None
    """Tune's own object."""
    heard_s: float = 0.0
    """When it last showed that it goes on."""
    num_restarts: int = 0
    earlier_s: float = 0.0
    """What its epochs took before the sweep was interrupted."""
    has_state: bool = False
    """Whether its results keep what it would go on from."""
    num_own_failures: int = 0
    """Restarts that were not a lost node's fault."""
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
        environment_id: str | None = None,
        timeout_s: float | None = None,
        hold: Hold | None = None,
        num_families: int = MAX_FAILED_FROM_START,
    ) -> None:
        self.results, self.queue, self.view = results, queue, view
        self.split_fingerprint, self.data_fingerprint = split_fingerprint, data_fingerprint
        self.metric = metric
        self.git_sha, self.environment_id = git_sha(), environment_id
        self.dead_axes = DeadAxes()
        self.running: dict[str, Running] = {}
        self.ended: list[str] = []
        """The trials of this run in the order in which they ended."""
        self.forgotten: Any = None
        """The first of Tune's trials that ended."""
        self.shelf = Shelf(results, keep, metric, queue.needed)
        self.timeout_s, self.hold = timeout_s, hold or Hold()
        self.beginning = Beginning(num_families)
        self.keeps_states = True
        """Whether no trial said that its state could not be written."""
        self.advice: str | None = None
        """Why the sweep stopped early, and what to do."""
        self.cannot_write: CannotWrite | None = None
        """Why nothing can go on, to be raised after the step: what Tune catches before, it takes
        for a fault of the trial.
        """

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its Tuner for a restore that raylab never asks for."""
        return {}

    def resume_kept(self, records: Iterable[Record]) -> None:
        """Count the checkpoints of earlier runs on this data among the best few, and leave those of
        other data as they are; raise their alarms again.
        """
        held = self.results.checkpoint_ids()
        for record in records:
            self.beginning.is_over |= record.status != "failed"
            self.sound_alarm(record)
            if record.trial_id in held and record.data_fingerprint == self.data_fingerprint:
                self.shelf.put(record)
        self.shelf.clear()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        identity = trial.config["trial_id"]
        if identity not in self.running:  # else it goes on after its process died
            config = TrialConfig.model_validate(trial.config["config"])
            self.running[identity] = Running(config, datetime.now(UTC), time.monotonic())
            self.view.started(identity, config)
        self.running[identity].trial = trial
        self.running[identity].heard_s = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        running = self.running[trial.config["trial_id"]]
        running.heard_s = time.monotonic()
        if "error_kind" in result:
            running.error_kind, running.error = result["error_kind"], result["error"]
            running.may_heal = result.get("may_heal", True)
            return
        row = {name: result[name] for name in EPOCH_COLUMNS}
        is_replayed = bool(result.get("is_replayed"))
        if is_replayed:
            # Of another driver's trial; this one's own restarts are counted where they happen.
            running.num_restarts += not running.epochs and not running.num_restarts
            running.earlier_s += row["seconds"]
        running.has_state = result.get("has_state", False)
        self.warn_of_states(result.get("state_error"))
        running.epochs[row["epoch"]] = row
        facts = ("num_train", "num_val", "num_workers", "device")
        running.facts = {name: result[name] for name in facts if name in result}
        running.placement_group = result.get("placement_group")
        self.view.epoch(trial.config["trial_id"], row | {"is_replayed": is_replayed})

    def warn_of_states(self, error: str | None) -> None:
        """Say once that a state could not be written; no trial ends for it."""
        if error and self.keeps_states:
            self.keeps_states = False
            self.view.note(f"WARNING {error}: a trial that dies has no newer state to go on from")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        running = self.running[trial.config["trial_id"]]
        if running.error_kind:
            self.record(trial.config["trial_id"], "failed")
        elif any(row["is_last"] for row in running.epochs.values()):
            self.record(trial.config["trial_id"], "complete")
        else:
            self.record(trial.config["trial_id"], "pruned")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Another try: from its last state, after a pause, unless there were enough."""
        self.on_trial_start(iteration, trials, trial)
        running, story = self.running[trial.config["trial_id"]], last_story(trial)
        release_group(running)
        failure = self.failure(trial, story)
        if self.cannot_write:
            return  # no trial could do better
        running.num_restarts += 1
        running.num_own_failures += failure.is_own
        if running.num_own_failures > MAX_RESTARTS or running.num_restarts > MAX_LOSSES:
            running.num_restarts -= 1
            trial.config["given_up"] = {"error_kind": failure.kind, "error": failure.text}
            trial.max_failures = 0  # should its process not even start
            return
        trial.config["num_restarts"] = running.num_restarts
        trial.config["num_heard"] = max(running.epochs, default=0)
        self.view.note(f"{trial.config['trial_id']}: {failure.text}; it is started again")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """No other try."""
        self.on_trial_start(iteration, trials, trial)  # its actor may never have started
        running = self.running[trial.config["trial_id"]]
        if running.error_kind is None:
            failure = self.failure(trial, last_story(trial))
            running.error_kind, running.error = failure.kind, failure.text
        elif running.error_kind == TIMEOUT:
            with self.writing():
                self.results.write_log(trial.config["trial_id"], f"{running.error}\n")
        self.record(trial.config["trial_id"], "failed")

    def failure(self, trial: Any, story: str) -> Failure:
        """Why Tune's trial failed, kept in its log."""
        failure = failure_in(story)
        with self.writing():
            if failure.kind == CannotWrite.__name__:
                raise CannotWrite(failure.text)
            self.results.write_log(trial.config["trial_id"], story)
        return failure

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Whatever cannot be written in here, or read for it, ends the sweep with the step."""
        try:
            yield
        except CannotWrite as error:
            self.cannot_write = error
        except OSError as error:
            self.cannot_write = cannot_write(self.results.location, error)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the processes of trials that showed no progress for too long.

        Raises CannotWrite where the storage took nothing in this step, CannotFinish where another
        process has taken the results over.
        """
        self.hold.check()
        if self.cannot_write:
            raise self.cannot_write
        if self.timeout_s is None:
            return
        now = time.monotonic()
        for running in self.running.values():
            actor = running.trial.temporary_state.ray_actor
            if actor is None or now - running.heard_s < self.timeout_s:
                continue
            running.heard_s = now
            running.error_kind = TIMEOUT
            running.error = (
                f"no epoch ended in {self.timeout_s / 60:g} minutes "
                "(resources.trial_timeout_minutes)"
            )
            running.trial.max_failures = 0
            ray.kill(actor)

    def record(self, identity: str, status: Status) -> None:
        """Write how the trial ended, and tell the queue and the view."""
        running = self.running.pop(identity)
        release_group(running)
        forget(running.trial)
        if status != "failed":  # of these Tune still writes down the error
            self.forgotten = self.forgotten or running.trial
            share(running.trial, self.forgotten)
        with self.writing():
            record = self.written(running, status)
            if running.has_state and not (status == "failed" and running.may_heal):
                self.results.delete_state(identity)
            self.ended.append(identity)
            self.queue.ended(identity, outcome_of(record, self.metric))
            self.shelf.put(record)
            self.shelf.clear()
            self.view.ended(record)
            self.sound_alarm(record)
            self.stop_if_hopeless(record)

    def written(self, running: Running, status: Status) -> Record:
        """The record, kept for good."""
        record = record_from(
            config=running.config,
            data_fingerprint=self.data_fingerprint,
            split_fingerprint=self.split_fingerprint(running.config),
            epochs=[running.epochs[epoch] for epoch in sorted(running.epochs)],
            status=status,
            metric=self.metric,
            started_at=running.started_at.isoformat(timespec="milliseconds"),
            seconds=running.earlier_s + time.monotonic() - running.started_s,
            git_sha=self.git_sha,
            environment_id=self.environment_id,
            error_kind=running.error_kind,
            error=running.error,
            num_restarts=running.num_restarts,
            **running.facts,
        )
        self.results.add(record)
        return record

    def stop_if_hopeless(self, record: Record) -> None:
        """Start nothing more when all that ended so far failed of one cause."""
        cause = self.beginning.hear(record)
        if cause is not None:
            self.advice = (
                f"the first {self.beginning.num_failed} trials failed of one cause, and no more "
                f"were started:\n  {cause}\nMend it and add --retry-failed; or the same command "
                "goes on with the other trials."
            )
            self.queue.stop()

    def sound_alarm(self, record: Record) -> None:
        """Say so when the record shows that a field changes nothing."""
        for alarm in self.dead_axes.hear(record):
            self.view.note(str(alarm))


def forget(trial: Any) -> None:
    """Empty what Tune keeps of an ended trial: its config in three forms, its reports, tables that
    nobody asks for, and a reference for which Ray remembers a whole task.

    Together they are 70 kB, so that thousands of trials would fill the driver.
    """
    trial.config.pop("config", None)
    trial.evaluated_params.clear()
    trial.experiment_tag = ""
    trial._default_result_or_future = None
    known = trial.run_metadata
    known.last_result = FORGOTTEN
    known.metric_analysis.clear()
    known.metric_n_steps.clear()


def share(trial: Any, other: Any) -> None:
    """Let two ended trials of Tune have what is alike in them only once."""
    trial.placement_group_factory = other.placement_group_factory
    trial.run_metadata = other.run_metadata


def release_group(running: Running) -> None:
    """Free what a trial's worker group holds: when its driver ends early, the group lives on.

    Ray Train's own cleaner asks the dashboard, which a local Ray does not have.
    """
    if running.placement_group is not None:
        group = PlacementGroupID(bytes.fromhex(running.placement_group))
        remove_placement_group(PlacementGroup(group))
        running.placement_group = None
