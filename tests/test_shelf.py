"""Which states of trials stay in a results directory when a sweep begins."""

from collections.abc import Collection
from pathlib import Path

import pytest

from raylab.results.directory import ResultsDirectory
from raylab.sweep.shelf import clear_states


@pytest.mark.parametrize(
    ("planned", "left"),
    [(("ended", "planned", "failed"), {"planned", "failed"}), ((), set()), (None, None)],
    ids=["a grid", "begun anew", "a search that decides as it goes"],
)
def test_states_stay_from_which_a_trial_may_go_on(
    tmp_path: Path, planned: Collection[str] | None, left: set[str] | None
) -> None:
    results = ResultsDirectory(tmp_path)
    for name in ("ended", "planned", "failed", "left the grid"):
        results.write_state(name, b"state")
    clear_states(results, {"ended"}, planned)
    expected = {"planned", "failed", "left the grid"} if left is None else left
    assert results.state_ids() == expected


def test_what_a_killed_process_left_half_written_goes_and_other_writers_are_not_disturbed(
    tmp_path: Path,
) -> None:
    results = ResultsDirectory(tmp_path)
    clear_states(results, (), None)  # nothing is there yet
    results.write_state("aaa", b"state")
    torn, written = tmp_path / "states" / ".1.part", tmp_path / ".2.part"
    for path in (torn, written):
        path.write_bytes(b"half")
    clear_states(results, (), {"aaa"})
    assert (torn.exists(), written.exists()) == (False, True)
    assert results.state("aaa") == b"state"
