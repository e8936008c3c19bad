"""A finished trial is trained on from its kept weights, and stands beside what it came from."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raylab.cli import app
from raylab.config.files import WEIGHTS
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.training.checkpoint import load_model, save_model
from raylab.training.model import build_model, normalization


def extend(finished_copy: Path, trial: str, *more: str) -> tuple[int, str]:
    arguments = ["extend", str(finished_copy / "results"), trial, "--json", "--quiet", *more]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output if done.exit_code else done.stdout


def test_more_epochs_begin_where_the_trial_was_best_and_both_are_compared(
    finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(finished_copy / "cache"))
    results = ResultsDirectory(finished_copy / "results")
    trial_id = sorted(results.checkpoint_ids())[0]
    before = {record.trial_id: record for record in results.records()}
    code, answer = extend(finished_copy, trial_id[:8], "--epochs", "3", "--lr", "1e-4")
    assert code == 0, answer
    rows = {row["trial_id"]: row for row in json.loads(answer)}
    assert rows.keys() > {trial_id}
    (longer,) = (row for name, row in rows.items() if name != trial_id)
    assert (longer["num_epochs"], longer["lr"]) == (3, 1e-4)
    assert longer["split_fingerprint"] == before[trial_id].split_fingerprint
    both = results.extended(trial_id)
    first = {r.trial_id: r.epochs[0]["train_loss"] for r in both.records()}
    assert first[longer["trial_id"]] < first[trial_id]  # it did not begin anew
    assert both.predictions(trial_id).num_rows == both.predictions(longer["trial_id"]).num_rows
    assert {record.trial_id: record for record in results.records()} == before


def test_a_trial_whose_weights_are_gone_is_refused(finished_copy: Path) -> None:
    results = ResultsDirectory(finished_copy / "results")
    trial_id = sorted(results.checkpoint_ids())[-1]
    results.delete_checkpoint(trial_id)
    code, answer = extend(finished_copy, trial_id, "--epochs", "3")
    assert code == 2
    assert "its weights were not kept" in answer
    assert not (finished_copy / "results" / "extended" / trial_id).exists()


def test_kept_weights_are_normalised_as_they_were_trained(tmp_path: Path) -> None:
    config = TrialConfig(model="resnet18", image_size=32)
    state = build_model(config, 2).state_dict()
    save_model(tmp_path, config, ("a", "b"), state)
    beside = config.model_copy(update={"pretrained": str(tmp_path / WEIGHTS)})
    assert normalization(beside) == normalization(config)
    alone = tmp_path / "alone" / WEIGHTS
    alone.parent.mkdir()
    shutil.copy(tmp_path / WEIGHTS, alone)
    elsewhere = config.model_copy(update={"pretrained": str(alone)})
    assert normalization(elsewhere) != normalization(config)
    (alone.parent / "model.json").write_text('{"made by": "another tool"}')
    assert normalization(elsewhere) != normalization(config)
    again = build_model(beside, 2)
    kept = load_model(tmp_path).network.state_dict()
    assert all(bool((again.state_dict()[name] == kept[name]).all()) for name in kept)
