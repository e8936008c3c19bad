"""What the best kept models say of their training images teaches a trial of the same split."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from raylab.after.distill import say, teachers
from raylab.cli import app
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.source import scan
from raylab.images.teacher import taught_by, teacher_table
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.sweep.cluster import Slot
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Options, run_sweep
from raylab.sweep.shards import Images
from raylab.training import predict
from raylab.training.checkpoint import load_model, save_model
from raylab.training.model import build_model

CLASSES = ("happy", "슬픔")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Of two images of three, sure of neither."""
    probs = np.array([[0.8, 0.2], [0.4, 0.6]], dtype=np.float32)
    pq.write_table(teacher_table(["c", "a"], probs, CLASSES), tmp_path / "teacher.parquet")
    return tmp_path / "teacher.parquet"


def taught(path: Path, *held_out: int, weight: float = 0.25, digest: str = "") -> list[list[float]]:
    config = TrialConfig(teacher=str(path), teacher_digest=digest, teacher_weight=weight)
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    places = np.array(held_out, dtype=np.int64)
    found = taught_by(config, labels, ["a", "b", "c"], CLASSES, places)
    assert found.dtype == np.float32
    return [[round(float(value), 6) for value in row] for row in found]


def test_images_learn_a_mean_of_label_and_teacher_and_unknown_ones_their_label(
    teacher: Path,
) -> None:
    assert taught(teacher) == [[0.85, 0.15], [0, 1], [0.2, 0.8]]
    assert taught(teacher, 1, weight=1.0) == [[0.4, 0.6], [0, 1], [0.8, 0.2]]


def test_a_teacher_that_saw_what_validates_is_an_error(teacher: Path) -> None:
    with pytest.raises(ValueError, match=r"trained on 1 images which are held out here; .* split"):
        taught(teacher, 1, 2)


def test_a_file_that_is_no_teacher_is_an_error(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its content has changed"):
        taught(teacher, digest="0" * 16)
    with pytest.raises(ValueError, match=r"teacher file .* does not exist"):
        taught(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ValueError, match="is no Parquet file"):
        taught(tmp_path / "text.parquet")
    other = tmp_path / "other.parquet"
    probs = np.array([[1.0, 0.0]], dtype=np.float32)
    pq.write_table(teacher_table(["a"], probs, ("happy", "sad")), other)
    with pytest.raises(ValueError, match="has no column p_슬픔"):
        taught(other)
    pq.write_table(teacher_table(["z"], probs, CLASSES), other)
    with pytest.raises(ValueError, match="none of the 1 images"):
        taught(other)
    pq.write_table(teacher_table(["a"], -probs, CLASSES), other)
    with pytest.raises(ValueError, match="no probabilities"):
        taught(other)


def distill(finished_copy: Path, *more: str) -> tuple[int, str]:
    arguments = ["distill", str(finished_copy / "results"), "--quiet", *more]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output if done.exit_code else done.stdout


@pytest.mark.slow
def test_the_kept_models_teach_a_trial_of_the_same_split(
    finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(finished_copy / "cache"))
    results = ResultsDirectory(finished_copy / "results")
    code, answer = distill(finished_copy, "--top", "2", "--json")
    assert code == 0, answer
    told = json.loads(answer)
    assert len(set(told["trial_ids"])) == 2
    assert set(told["trial_ids"]) <= results.checkpoint_ids()
    record = next(r for r in results.records() if r.trial_id == told["trial_ids"][0])
    table = pq.read_table(told["path"])
    assert table.num_rows == told["num_images"] == record.num_train
    assert told["agreement"] > 1.5 / len(results.predictions(record.trial_id).column_names[2:])
    validated = set(results.predictions(record.trial_id)["image_id"].to_pylist())
    assert not validated & set(table["image_id"].to_pylist())

    grid = finished_copy / "results" / "grid.yaml"
    wanted = ["axes={}", "seeds=[0]", f"trial.teacher={told['path']}", "trial.teacher_weight=0.9"]
    sweep = read_grid(grid, overrides=wanted)
    (config,) = Plan(sweep, scan(sweep.data)).configs()
    assert len(config.teacher_digest) == 16
    outcomes = run_sweep(sweep, Options(str(finished_copy / "student"), quiet=True))
    (student,) = outcomes.records
    assert (student.status, student.error) == ("complete", None)
    assert student.split_fingerprint == record.split_fingerprint
    alone = read_grid(grid, overrides=["axes={}", "seeds=[0]"])
    (untaught,) = run_sweep(alone, Options(str(finished_copy / "student"), quiet=True)).records
    assert untaught.trial_id != student.trial_id
    assert untaught.train_loss != student.train_loss


def test_too_few_kept_models_are_refused(finished_copy: Path) -> None:
    code, answer = distill(finished_copy, "--top", "99")
    assert code == 2
    assert "kept models learned from the best one's training images, 99 are wanted" in answer
    assert "no teacher was made" in answer
    code, answer = distill(finished_copy.parent / "nowhere")
    assert code == 2


def test_models_of_changed_data_teach_nothing(tmp_path: Path) -> None:
    results, source = ResultsDirectory(tmp_path), scan("toy:num=140")
    row = {"epoch": 1, "val_accuracy": 0.9, "val_loss": 1.0, "seconds": 1.0}
    before = record_from(TrialConfig(), "leaky data", "split", [row], "complete")
    row = row | {"val_accuracy": 0.5}
    now = record_from(TrialConfig(), source.fingerprint, "split", [row], "complete")
    for record in (before, now):
        results.add(record)
    results.checkpoint(before.trial_id).write_bytes("model.json", b"{}")
    with pytest.raises(Refused, match=r"no complete trial on this data; .* with --fresh"):
        teachers(results, source, "val_accuracy", 1)
    results.checkpoint(now.trial_id).write_bytes("model.json", b"{}")
    assert [r.trial_id for r in teachers(results, source, "val_accuracy", 1)] == [now.trial_id]
    with pytest.raises(Refused, match=r"1 kept models .* 2 are wanted; .* with --fresh"):
        teachers(results, source, "val_accuracy", 2)
    with pytest.raises(Refused, match="have changed since the sweep"):
        teachers(results, scan("toy:num=140,wrong=0.2"), "val_accuracy", 1)


def test_pixels_that_memory_may_not_hold_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Pixels(predict.Pixels):
        def __init__(self, images: torch.Tensor, *more: Any, **named: Any) -> None:
            seen.append(images.numpy())
            super().__init__(images, *more, **named)

    config, cpu = TrialConfig(model="cnn", image_size=16), torch.device("cpu")
    model = build_model(config, len(CLASSES))
    save_model(tmp_path, config, CLASSES, model.state_dict())
    kept = load_model(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    rows = np.array([5, 2, 7])
    expected = predict.predict_pixels(kept, kept.network, pixels[rows], cpu)
    monkeypatch.setattr(predict, "Pixels", Pixels)
    assert say(str(tmp_path), pixels, rows, Slot(1, torch.get_num_threads(), 0, 1)) == (
        pytest.approx(expected)
    )
    (images,) = seen
    assert np.shares_memory(images, pixels)


def test_votes_and_a_teacher_are_both_heard(finished: Path, tmp_path: Path) -> None:
    source = scan(str(finished / "faces.csv"))
    table = ResultsDirectory(finished / "results").images()
    images = Images.of(table, source.classes, source.fingerprint)
    num, nobody = len(source.classes), np.array([], dtype=np.int64)
    assert images.taught(TrialConfig(), nobody) is None
    with pytest.raises(ValueError, match="soft_labels: the source has no votes"):
        images.taught(TrialConfig(soft_labels=True), nobody)
    even = np.full((len(images.labels), num), 1 / num, dtype=np.float32)
    voted = replace(images, soft_labels=even)
    sure = np.eye(num, dtype=np.float32)[:1]
    path = tmp_path / "teacher.parquet"
    pq.write_table(teacher_table(images.image_ids[:1], sure, source.classes), path)
    found = voted.taught(TrialConfig(soft_labels=True, teacher=str(path)), nobody)
    assert found is not None
    assert found[0].tolist() == pytest.approx([0.5 + 0.5 / num, *[0.5 / num] * (num - 1)])
    assert (found[1:] == even[1:]).all()
