"""How often a trial is tried again: its own failures are few, those of its nodes many."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylab.config.identity import trial_id
from raylab.config.sweep import Scheduler, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, CannotWrite
from raylab.events.progress import View
from raylab.results.directory import ResultsDirectory
from raylab.sweep.collector import EPOCH_COLUMNS, Collector
from raylab.sweep.failures import MAX_LOSSES, MAX_RESTARTS
from raylab.sweep.lock import Holder
from raylab.sweep.queue import ListProposer, TrialQueue
from raylab.sweep.tune_terms import scheduler_of

LOST = "The actor died because its node has died. Node Id: 12ab"
DIED = "The actor is dead because its worker process has died."


class Silent(View):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, trial_id: str, config: TrialConfig) -> None: ...
    def ended(self, record: Any) -> None: ...
    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.rows.append(row)


class Tried:
    """A collector with one trial that runs, and Tune's word that it was lost."""

    def __init__(self, place: Path) -> None:
        config = TrialConfig(model="cnn")
        self.results = ResultsDirectory(place)
        self.error_file = place / "error.txt"
        queue = TrialQueue(
            ListProposer(iter([config])),
            lambda config: trial_id(config, "data"),
            lambda identity: (False, None),
            lambda: True,
            "val_accuracy",
        )
        self.view = Silent()
        self.collector = Collector(
            self.results, queue, lambda config: "split", "data", "val_accuracy", 1, self.view
        )
        known = SimpleNamespace(last_result={}, metric_analysis={}, metric_n_steps={})
        self.trial = SimpleNamespace(
            config=queue.suggest("of Tune"),
            error_file=str(self.error_file),
            max_failures=-1,
            evaluated_params={},
            placement_group_factory=None,
            run_metadata=known,
        )
        self.collector.on_trial_start(1, [], self.trial)

    def epoch(self, epoch: int, **more: Any) -> None:
        """The trial reports this epoch, and more."""
        row = dict.fromkeys(EPOCH_COLUMNS, 1.0) | {"precision": "float32", "is_last": False}
        self.collector.on_trial_result(1, [], self.trial, row | {"epoch": epoch} | more)

    def is_tried_again_after(self, *stories: str) -> bool:
        for story in stories:
            self.error_file.write_text(f"Failure # 1\n{story}\n")
            self.collector.on_trial_recover(1, [], self.trial)
        return "given_up" not in self.trial.config


@pytest.fixture
def tried(tmp_path: Path) -> Tried:
    return Tried(tmp_path)


def test_a_process_that_dies_is_started_again_twice(tried: Tried) -> None:
    assert tried.is_tried_again_after(*[DIED] * MAX_RESTARTS)
    assert not tried.is_tried_again_after(DIED)
    assert tried.trial.config["given_up"]["error_kind"] == "ProcessDied"


def test_lost_nodes_leave_a_trial_its_own_tries(tried: Tried) -> None:
    assert tried.is_tried_again_after(*[LOST] * (MAX_RESTARTS + 3), *[DIED] * MAX_RESTARTS)
    assert not tried.is_tried_again_after(DIED)


def test_a_cluster_that_loses_every_node_is_not_tried_for_ever(tried: Tried) -> None:
    assert tried.is_tried_again_after(*[LOST] * MAX_LOSSES)
    assert not tried.is_tried_again_after(LOST)
    assert tried.trial.config["given_up"]["error_kind"] == "NodeLost"


def test_the_record_counts_the_restarts(tried: Tried) -> None:
    assert tried.is_tried_again_after(LOST, LOST, DIED)
    result = {"error_kind": "ValueError", "error": "no such layer"}
    tried.collector.on_trial_result(1, [], tried.trial, result)
    tried.collector.on_trial_complete(1, [], tried.trial)
    (record,) = tried.results.records()
    assert (record.status, record.num_restarts) == ("failed", 3)


def test_storage_that_cannot_be_read_either_ends_the_sweep_with_what_to_do(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(record: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tried.results, "add", away)
    result = {"error_kind": "ValueError", "error": "no such layer"}
    tried.collector.on_trial_result(1, [], tried.trial, result)
    tried.collector.on_trial_complete(1, [], tried.trial)
    with pytest.raises(CannotWrite, match="Input/output error\\nWhat is finished is kept"):
        tried.collector.on_step_end(1, [])


def test_a_sweep_ends_whose_results_another_process_took_over(tried: Tried) -> None:
    tried.collector.on_step_end(1, [])
    tried.collector.hold.taken_by = Holder("other", 7, "2026-11-27T15:00:00+00:00", "another")
    with pytest.raises(CannotFinish, match="process 7 on other since 2026"):
        tried.collector.on_step_end(1, [])


def test_another_process_is_told_of_which_epochs_nobody_heard(tried: Tried) -> None:
    assert tried.is_tried_again_after(LOST)
    assert tried.trial.config["num_heard"] == 0
    for epoch in (1, 2):
        tried.epoch(epoch)
    assert tried.is_tried_again_after(LOST)
    assert tried.trial.config["num_heard"] == 2


@pytest.mark.parametrize("last_words", [{}, {"may_heal": True}, {"may_heal": False}])
def test_a_trial_that_failed_of_its_machine_keeps_the_state_that_another_try_goes_on_from(
    tried: Tried, last_words: dict[str, bool]
) -> None:
    identity = tried.trial.config["trial_id"]
    tried.results.write_state(identity, b"state")
    tried.epoch(1, has_state=True)
    failed = {"error_kind": "OutOfMemory", "error": "no memory is left"}
    tried.collector.on_trial_result(1, [], tried.trial, failed | last_words)
    tried.collector.on_trial_complete(1, [], tried.trial)
    assert bool(tried.results.state_ids()) == last_words.get("may_heal", True)


def test_a_trial_that_showed_no_progress_keeps_its_state(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("raylab.sweep.collector.ray.kill", killed.append)
    tried.results.write_state(tried.trial.config["trial_id"], b"state")
    tried.epoch(1, has_state=True)
    tried.trial.temporary_state = SimpleNamespace(ray_actor="its actor")
    tried.collector.timeout_s = 0.0
    tried.collector.on_step_end(1, [])
    tried.collector.on_trial_error(1, [], tried.trial)
    (record,) = tried.results.records()
    assert (record.error_kind, killed) == ("timeout", ["its actor"])
    assert tried.results.state_ids() == {record.trial_id}


def test_a_trial_that_is_complete_needs_its_state_no_more(tried: Tried) -> None:
    tried.results.write_state(tried.trial.config["trial_id"], b"state")
    tried.epoch(1, has_state=True)
    tried.epoch(2, has_state=True, is_last=True)
    tried.collector.on_trial_complete(1, [], tried.trial)
    assert not tried.results.state_ids()


def test_a_process_that_died_before_its_first_epoch_was_heard_is_one_restart(
    tried: Tried,
) -> None:
    """It had kept its state of that epoch, which the next process tells again."""
    assert tried.is_tried_again_after(DIED)
    tried.epoch(1, is_replayed=True)
    tried.epoch(2, is_last=True)
    tried.collector.on_trial_complete(1, [], tried.trial)
    assert tried.results.records()[0].num_restarts == 1


def test_views_hear_which_epochs_an_earlier_run_trained_and_the_record_does_not(
    tried: Tried,
) -> None:
    tried.epoch(1, is_replayed=True)
    tried.epoch(2, is_last=True)
    tried.collector.on_trial_complete(1, [], tried.trial)
    assert [row["is_replayed"] for row in tried.view.rows] == [True, False]
    (record,) = tried.results.records()
    assert all("is_replayed" not in epoch for epoch in record.epochs)


def test_that_states_cannot_be_written_is_told_once_and_ends_nothing(tried: Tried) -> None:
    tried.epoch(1)
    assert tried.view.notes == []
    for epoch in (2, 3):
        tried.epoch(epoch, state_error="r/states/a.pt cannot be written: full")
    tried.collector.on_step_end(1, [])
    (note,) = tried.view.notes
    assert note.startswith("WARNING r/states/a.pt cannot be written: full: a trial that dies")


def test_a_trial_is_not_pruned_for_epochs_from_before_an_interruption() -> None:
    sweep = SweepConfig(name="asha", data="toy", scheduler=Scheduler(kind="asha", grace_epochs=1))
    scheduler = scheduler_of(sweep, [TrialConfig(epochs=9)])
    said = []
    for i, replayed in enumerate([False, False, False, True, False]):
        trial = SimpleNamespace(trial_id=str(i))
        scheduler.on_trial_add(None, trial)
        result = {
            "epoch": 1,
            "training_iteration": 1,
            "val_accuracy": 0.9 - i / 10,
            "is_replayed": replayed,
        }
        said.append(scheduler.on_trial_result(None, trial, result))
    assert said[2:] == ["STOP", "CONTINUE", "STOP"]
