"""A sweep end to end on a real local Ray: records, resume, pruning, failures, workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from raylab.config.grid import read_grid
from raylab.errors import CannotFinish, Refused
from raylab.images.prepare import Variant
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.storage import Folder
from raylab.sweep.runner import Options, Outcomes, run_sweep
from raylab.sweep.shards import Images

TINY = """
name: tiny
data: "나의 'faces' 얼굴"
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32, amp: none,
        split: {train: 0.6, val: 0.3}}
"""


KOREAN = {
    "angry": "분노",
    "disgust": "혐오",
    "fear": "불안",
    "happy": "기쁨",
    "neutral": "중립",
    "sad": "슬픔",
    "surprise": "당황",
}
FACES = "나의 'faces' 얼굴"


@pytest.fixture(scope="module")
def workplace(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with toy faces of Korean names, two files among them that are no images, and a cache
    of its own.
    """
    place = tmp_path_factory.mktemp("sweep")
    faces = place / FACES
    write_folder(faces, num=210, wrong=0.0, seed=0)
    for english, korean in KOREAN.items():
        (faces / english).rename(faces / korean)
    (faces / "기쁨" / "깨진 파일.jpg").write_bytes(b"no image at all")
    (faces / "기쁨" / "Thumbs.db").write_bytes(b"thumbs")
    os.environ["RAYLAB_CACHE"] = str(place / "cache")
    yield place
    del os.environ["RAYLAB_CACHE"]


def sweep(place: Path, text: str, name: str, **options: bool) -> Outcomes:
    grid = place / f"{name}.yaml"
    grid.write_text(TINY + text, encoding="utf-8")
    chosen = Options(str(place / name), quiet=True, **options)
    return run_sweep(read_grid(grid), chosen)


@pytest.fixture(scope="module")
def crossed(workplace: Path) -> tuple[Path, Outcomes]:
    """A 2 x 2 sweep that several tests look at."""
    text = "axes: {lr: [1.0e-2, 1.0e-3], augment: [none, light]}\nkeep: 2\n"
    return workplace / "crossed", sweep(workplace, text, "crossed")


def test_leaderboard_has_a_row_per_trial_with_the_contract_columns(
    crossed: tuple[Path, Outcomes],
) -> None:
    place, outcomes = crossed
    board = pd.read_parquet(place / "leaderboard.parquet")
    assert outcomes.exit_code == 0
    assert len(board) == 4
    assert set(board["status"]) == {"complete"}
    assert (board["val_accuracy_low"] <= board["val_accuracy"]).all()
    assert (board["val_accuracy"] <= board["val_accuracy_high"]).all()
    assert board["num_train"].between(120, 132).all()
    assert board["num_val"].between(56, 70).all()


def test_predictions_give_the_accuracy_of_the_leaderboard(crossed: tuple[Path, Outcomes]) -> None:
    place, _ = crossed
    for row in pd.read_parquet(place / "leaderboard.parquet").itertuples():
        predicted = pd.read_parquet(place / "predictions" / f"{row.trial_id}.parquet")
        probs = predicted.filter(like="p_")
        guess = probs.columns[probs.to_numpy().argmax(axis=1)].str.removeprefix("p_")
        assert len(predicted) == row.num_val
        assert (guess == predicted["label"]).mean() == pytest.approx(row.val_accuracy)


def test_korean_names_and_broken_files_do_not_stop_a_sweep(crossed: tuple[Path, Outcomes]) -> None:
    results = ResultsDirectory(crossed[0])
    images = results.images().to_pandas()
    assert len(images) == 211
    (broken,) = images[images["status"] != "ok"].to_dict("records")
    assert broken["path"].endswith("깨진 파일.jpg")
    assert broken["label"] == "기쁨"
    said = results.predictions(crossed[1].records[0].trial_id)
    assert {f"p_{name}" for name in KOREAN.values()} < set(said.column_names)


def test_epochs_are_gathered_and_the_best_one_is_named(crossed: tuple[Path, Outcomes]) -> None:
    place, _ = crossed
    board = pd.read_parquet(place / "leaderboard.parquet").set_index("trial_id")
    epochs = pd.read_parquet(place / "epochs.parquet")
    assert len(epochs) == 8
    best = epochs.groupby("trial_id")["val_accuracy"].max()
    assert (best == board["val_accuracy"].reindex(best.index)).all()


def test_splits_can_be_read_back_and_share_no_image(crossed: tuple[Path, Outcomes]) -> None:
    place, _ = crossed
    board = pd.read_parquet(place / "leaderboard.parquet")
    (fingerprint,) = set(board["split_fingerprint"])
    split = pd.read_parquet(place / "splits" / f"{fingerprint}.parquet")
    images = pd.read_parquet(place / "images.parquet")
    assert set(split["split"]) == {"train", "val", "test"}
    assert set(split["image_id"]) == set(images.query("status == 'ok'")["image_id"])
    assert split["image_id"].is_unique


def test_only_the_best_few_checkpoints_are_kept(crossed: tuple[Path, Outcomes]) -> None:
    place, outcomes = crossed
    kept = {path.name for path in (place / "checkpoints").iterdir()}
    ranked = sorted(outcomes.records, key=lambda r: (-r.val_accuracy, r.trial_id))
    assert kept == {record.trial_id for record in ranked[:2]}
    for trial in kept:
        names = {path.suffix for path in (place / "checkpoints" / trial).iterdir()}
        assert names == {".safetensors", ".json"}


def test_the_same_command_again_runs_nothing(
    crossed: tuple[Path, Outcomes], workplace: Path
) -> None:
    place, before = crossed
    stamps = {path: path.stat().st_mtime_ns for path in (place / "records").iterdir()}
    text = "axes: {lr: [1.0e-2, 1.0e-3], augment: [none, light]}\nkeep: 2\n"
    again = sweep(workplace, text, "crossed")
    assert {r.trial_id for r in again.records} == {r.trial_id for r in before.records}
    assert {path: path.stat().st_mtime_ns for path in (place / "records").iterdir()} == stamps


def test_a_diverging_trial_is_recorded_and_the_others_finish(workplace: Path) -> None:
    # AdamW shrinks weights by lr * weight_decay a step: times 1,000 a step, they explode.
    text = "axes: {lr: [100.0, 1.0e-3], weight_decay: [10.0], epochs: [8]}\n"
    outcomes = sweep(workplace, text, "diverging")
    by_status = {record.status: record for record in outcomes.records}
    assert outcomes.exit_code == 1
    assert set(by_status) == {"complete", "failed"}
    assert by_status["failed"].error_kind == "diverged"
    assert "nan" in by_status["failed"].error or "inf" in by_status["failed"].error
    log = workplace / "diverging" / "logs" / f"{by_status['failed'].trial_id}.log"
    assert "Traceback" in log.read_text()


ASHA = """
metric: val_loss
scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}
axes: {lr: [1.0e-2, 1.0e-3, 1.0e-5, 1.0e-6"""


@pytest.fixture(scope="module")
def halved(workplace: Path) -> Outcomes:
    """Four trials of unlike learning rates under successive halving."""
    return sweep(workplace, ASHA + "]}\n", "asha")


def test_asha_stops_trials_early_and_says_how_far_they_came(
    halved: Outcomes, workplace: Path
) -> None:
    pruned = [record for record in halved.records if record.status == "pruned"]
    assert halved.exit_code == 0
    assert len(halved.records) == 4
    assert len(pruned) >= 1
    for record in pruned:
        assert record.num_epochs == 1
        path = workplace / "asha" / "predictions" / f"{record.trial_id}.parquet"
        assert path.exists()


def test_asha_compares_a_trial_with_those_of_an_earlier_run(
    halved: Outcomes, workplace: Path
) -> None:
    again = sweep(workplace, ASHA + ", 1.0e-9]}\n", "asha")
    (late,) = [record for record in again.records if record.config["lr"] == 1.0e-9]
    assert (late.status, late.num_epochs) == ("pruned", 1)


def test_random_search_repeats_its_draws(workplace: Path) -> None:
    text = "axes: {lr: {loguniform: [1.0e-4, 1.0e-2]}}\nsearch: {random: {num_trials: 3}}\n"
    first = sweep(workplace, text, "random")
    again = sweep(workplace, text, "random")
    assert len({record.config["lr"] for record in first.records}) == 3
    assert {r.trial_id for r in first.records} == {r.trial_id for r in again.records}


def test_optuna_runs_every_suggestion_with_every_seed(workplace: Path) -> None:
    text = """
axes: {lr: {loguniform: [1.0e-4, 1.0e-2]}, augment.rotate_deg: {uniform: [0, 9]}}
search: {optuna: {num_trials: 3}}
seeds: [0, 1]
"""
    outcomes = sweep(workplace, text, "optuna")
    board = pd.read_parquet(workplace / "optuna" / "leaderboard.parquet")
    assert outcomes.exit_code == 0
    assert len(board) == 6
    assert (board.groupby("family_id")["seed"].nunique() == 2).all()
    again = sweep(workplace, text, "optuna")
    assert {r.trial_id for r in again.records} == set(board["trial_id"])


@pytest.mark.parametrize("search", ["grid", "{optuna: {num_trials: 2}}"])
def test_a_split_that_leaves_a_class_untrained_is_refused(workplace: Path, search: str) -> None:
    text = (
        "axes: {lr: [1.0e-3, 1.0e-2], split.train: [0.01], split.val: [0.3], "
        f"split.strategy: [random]}}\nsearch: {search}\n"
    )
    with pytest.raises(Refused, match="no training image of"):
        sweep(workplace, text, "untrained")


def test_images_that_another_pillow_prepared_are_refused(crossed: tuple[Path, Outcomes]) -> None:
    table = ResultsDirectory(crossed[0]).images()
    images = Images.of(table, tuple(sorted(KOREAN.values())), "data")
    num = int(images.rows.max()) + 1
    good = Variant("good", 16, 1, Folder("prepared/good"), (), num, num)
    images.check_rows([good])
    with pytest.raises(CannotFinish, match=r"prepared/more holds .* another version of Pillow"):
        images.check_rows([good, replace(good, folder=Folder("prepared/more"), num_ok=num + 1)])


@pytest.mark.slow
def test_a_fixed_model_validates_alike_with_one_and_two_workers(workplace: Path) -> None:
    # Only the head learns, and it does not: BatchNorm keeps its statistics, no weight moves.
    text = "axes: {lr: [1.0e-12], train_layers: [head], epochs: [1]}\nresources: {workers: "
    (one,) = sweep(workplace, text + "1}\n", "fixed_one").records
    (two,) = sweep(workplace, text + "2}\n", "fixed_two").records
    assert (one.num_workers, two.num_workers) == (1, 2)
    assert one.trial_id == two.trial_id
    assert (one.val_accuracy, one.val_macro_f1) == (two.val_accuracy, two.val_macro_f1)
    mine = ResultsDirectory(workplace / "fixed_one").predictions(one.trial_id)
    other = ResultsDirectory(workplace / "fixed_two").predictions(one.trial_id)
    assert mine["image_id"].to_pylist() == other["image_id"].to_pylist()
    for name in (name for name in mine.column_names if name.startswith("p_")):
        assert np.allclose(mine[name], other[name], atol=1e-4)


def test_a_class_with_too_few_images_is_refused(workplace: Path) -> None:
    faces = workplace / "few"
    write_folder(faces, num=210, wrong=0.0, seed=2)
    for image in list((faces / "disgust").iterdir())[2:]:
        image.unlink()
    grid = workplace / "few.yaml"
    grid.write_text(TINY.replace(FACES, "few") + "axes: {lr: [1.0e-3]}\n")
    with pytest.raises(Refused, match="disgust"):
        run_sweep(read_grid(grid), Options(str(workplace / "refused"), quiet=True))
    assert not (workplace / "refused" / "leaderboard.parquet").exists()


@pytest.mark.slow
def test_asha_frees_the_workers_of_a_pruned_group(workplace: Path) -> None:
    text = """
axes: {lr: [1.0e-2, 1.0e-6, 1.0e-7], epochs: [5]}
scheduler: {asha: {grace_epochs: 3, reduction_factor: 2}}
resources: {workers: 2}
"""
    outcomes = sweep(workplace, text, "pruned_groups")
    assert outcomes.exit_code == 0
    assert len(outcomes.records) == 3
    assert {record.status for record in outcomes.records} == {"complete", "pruned"}
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)


def run_cli(*arguments: str, cwd: Path, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "raylab", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_bad_grid_is_refused_before_anything_starts(workplace: Path) -> None:
    (workplace / "bad.yaml").write_text(TINY + "axes: {learning_rate: [0.1]}\n")
    process = run_cli("sweep", "bad.yaml", cwd=workplace)
    answer, story = process.communicate(timeout=60)
    assert process.returncode == 2
    assert answer == ""
    assert "bad.yaml:" in story
    assert "Traceback" not in story
    assert story.strip().endswith("no trial was started.")
    assert not (workplace / "results" / "tiny").exists()
