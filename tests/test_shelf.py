"""Which weights and states of trials stay in a results directory when a sweep begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylab.config.trial import TrialConfig
from raylab.events.progress import Views
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.sweep.collector import Collector
from raylab.sweep.shelf import clear_states


def kept(results: ResultsDirectory, accuracy: float, data: str) -> str:
    """The id of a trial on this data whose weights lie in the results."""
    row = {"epoch": 1, "val_accuracy": accuracy, "train_loss": 1.0, "val_loss": 1.0}
    record = record_from(TrialConfig(lr=accuracy), data, "split", [row], "complete")
    results.add(record)
    results.checkpoint(record.trial_id).write_bytes("model.json", b"{}")
    return record.trial_id


def test_weights_of_changed_data_stay_and_push_none_out(tmp_path: Path) -> None:
    results, queue = ResultsDirectory(tmp_path), SimpleNamespace(needed=lambda: ())
    before = {kept(results, accuracy, "leaky data") for accuracy in (0.8, 0.9)}
    now = [kept(results, accuracy, "clean data") for accuracy in (0.5, 0.6, 0.7)]
    known: Any = (queue, lambda config: "split", "clean data", "val_accuracy", 2, Views())
    Collector(results, *known).resume_kept(results.each_record())
    assert results.checkpoint_ids() == {*before, *now[1:]}


@pytest.mark.parametrize(
    ("ended", "left"),
    [({"ended", "without a state"}, {"planned", "failed", "left the grid"}), (None, set())],
    ids=["goes on", "begins anew"],
)
def test_states_stay_from_which_a_trial_may_go_on(
    tmp_path: Path, ended: set[str] | None, left: set[str]
) -> None:
    results = ResultsDirectory(tmp_path)
    for name in ("ended", "planned", "failed", "left the grid"):
        results.write_state(name, b"state")
    assert clear_states(results, ended) == results.state_ids() == left


def test_what_a_killed_process_left_half_written_goes_and_other_writers_are_not_disturbed(
    tmp_path: Path,
) -> None:
    results = ResultsDirectory(tmp_path)
    clear_states(results, ())  # nothing is there yet
    results.write_state("aaa", b"state")
    torn, written = tmp_path / "states" / ".1.part", tmp_path / ".2.part"
    for path in (torn, written):
        path.write_bytes(b"half")
    clear_states(results, ())
    assert (torn.exists(), written.exists()) == (False, True)
    assert results.state("aaa") == b"state"
