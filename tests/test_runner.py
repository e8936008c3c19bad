"""What a run of a sweep does before and after Ray Tune has its trials."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylab.results.directory import ResultsDirectory
from raylab.sweep.runner import Sweeping


@pytest.mark.parametrize(
    ("kind", "fresh", "left"),
    [
        ("grid", False, {"failed", "planned"}),
        ("random", False, {"failed", "planned"}),
        ("optuna", False, {"failed", "planned", "drawn later"}),
        ("pbt", False, {"failed", "planned", "drawn later"}),
        ("grid", True, set()),
        ("optuna", True, set()),
    ],
)
def test_a_run_begins_with_the_states_that_its_trials_go_on_from(
    tmp_path: Path, kind: str, fresh: bool, left: set[str]
) -> None:
    results = ResultsDirectory(tmp_path)
    for name in ("complete", "failed", "planned", "drawn later"):
        results.write_state(name, b"state")
    known = {name: SimpleNamespace(status=name) for name in ("complete", "failed")}
    run: Any = SimpleNamespace(
        results=results,
        reusable={} if fresh else known,
        sweep=SimpleNamespace(search=SimpleNamespace(kind=kind)),
        options=SimpleNamespace(fresh=fresh),
    )
    Sweeping.clear_states(run, ("complete", "failed", "planned"))
    assert results.state_ids() == left
