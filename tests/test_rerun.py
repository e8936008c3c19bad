"""A trial repeated from its results is the same bit for bit, and leaves them as they were."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raylab.cli import app
from raylab.results.directory import ResultsDirectory


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished sweep, which learned from where it was."""
    place = tmp_path_factory.mktemp("rerun") / "copy"
    shutil.copytree(finished, place)
    return place


def rerun(place: Path, trial: str, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    patch.setenv("RAYLAB_CACHE", str(place / "cache"))
    arguments = ["rerun", str(place / "results"), trial, "--json", "--quiet"]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def stamps(place: Path) -> dict[Path, int]:
    files = (path for path in (place / "results").rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files if "reruns" not in path.parts}


def test_a_repeated_trial_is_the_same_and_nothing_is_written_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stamps(place)
    record = ResultsDirectory(place / "results").records()[0]
    code, answer = rerun(place, record.trial_id[:6], monkeypatch)
    assert code == 0, answer
    found = json.loads(answer)
    assert found["verdict"] == "same"
    assert found["differs"] == {}
    assert found["bits_expected"]
    assert found["spread"]["source"] == "std over 2 seeds"
    assert stamps(place) == before
    repetition = ResultsDirectory(place / "results").rerun(record.trial_id)
    assert repetition.records()[0].epochs[0]["val_loss"] == record.epochs[0]["val_loss"]


@pytest.mark.slow
def test_a_result_that_does_not_repeat_is_told_with_what_differs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ResultsDirectory(place / "results")
    record = results.records()[1]
    told = record.to_json()
    told["epochs"][0]["train_loss"] += 1e-12
    results.folder.write_json(f"records/{record.trial_id}.json", told)
    code, answer = rerun(place, record.trial_id, monkeypatch)
    assert code == 1, answer
    assert json.loads(answer)["verdict"] == "mismatch"
    assert "epoch 1: train_loss" in json.loads(answer)["first_difference"]


@pytest.mark.parametrize(("trial", "text"), [("zz", "no such trial"), ("", "give more of it")])
def test_a_trial_that_is_not_one_is_refused(
    place: Path, trial: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, answer = rerun(place, trial, monkeypatch)
    assert code == 2
    assert text in answer


def test_every_record_names_the_environment_it_ran_in(place: Path) -> None:
    results = ResultsDirectory(place / "results")
    (environment_id,) = set(results.leaderboard()["environment_id"].to_pylist())
    assert results.environment(environment_id) == results.environment()
    assert results.environment()["code"]
