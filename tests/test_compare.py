"""Several sweeps side by side, and a sweep that grows: only what is new runs."""

import json
import shutil
from pathlib import Path

import pytest
from finished_sweep import GRID

from raylab.analysis.board import show
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Options, run_sweep

GROWN = GRID.replace("[1.0e-2, 1.0e-3]", "[1.0e-2, 1.0e-3, 1.0e-4]").replace("[0, 1]", "[0, 1, 2]")


def results_over(place: Path, name: str, fingerprint: str, accuracies: list[float]) -> str:
    results = ResultsDirectory(place / name)
    for i, accuracy in enumerate(accuracies):
        row = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
        config = TrialConfig(lr=(i + 1) / 100)
        results.add(record_from(config, fingerprint, "split", [row], "complete", num_val=50))
    results.flush()
    return results.location


def test_sweeps_over_other_images_have_a_board_of_their_own(tmp_path: Path) -> None:
    one = results_over(tmp_path, "one", "aaaa", [0.5, 0.6])
    two = results_over(tmp_path, "two", "bbbb", [0.9])
    three = results_over(tmp_path, "three", "aaaa", [0.55, 0.65])
    first, second = show([one, two, three]).split("\n\n")
    assert first.startswith("data aaaa (one, three)\n")
    assert second.startswith("data bbbb (two)\n")
    assert "0.9000" in second
    assert "0.9000" not in first
    assert show([one, two], "markdown").count("| # |") == 2
    assert len(json.loads(show([one, two], "json"))) == 3


def test_sweeps_over_the_same_images_share_one_board(tmp_path: Path) -> None:
    one = results_over(tmp_path, "one", "aaaa", [0.5, 0.6])
    two = results_over(tmp_path, "two", "aaaa", [0.9])
    assert "data aaaa" not in show([one, two])


def grown(finished: Path) -> Path:
    path = finished / "grown.yaml"
    path.write_text(GROWN)
    return path


def test_a_grid_that_grew_plans_only_the_new_trials(finished: Path) -> None:
    plan = Plan(read_grid(grown(finished)), scan(str(finished / "faces.csv")))
    summary = plan.summary(ResultsDirectory(finished / "results"))
    assert (summary["trials"], summary["done"], summary["to_run"]) == (9, 4, 5)


@pytest.mark.slow
def test_a_grid_that_grew_runs_only_the_new_trials(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(finished / "cache"))
    shutil.copytree(finished / "results", tmp_path / "results")
    records = tmp_path / "results" / "records"
    before = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    ran = run_sweep(read_grid(grown(finished)), Options(str(tmp_path / "results"), quiet=True))
    after = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    assert (len(before), len(after), len(ran.records)) == (4, 9, 9)
    assert {name: after[name] for name in before} == before
