"""The locked test split: no sweep reads it, `final` does so once, and counts."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_sweep import run, write_faces
from safetensors.torch import load_file
from typer.testing import CliRunner

from raylab.after.earlier import latest
from raylab.after.final import FinalOptions, job_for, run_final, score
from raylab.after.retrain import Job
from raylab.cli import app
from raylab.commands.final import final_text
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.source import scan
from raylab.images.split import split_fingerprint
from raylab.images.teacher import teacher_table
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.results.winners import ranked_families
from raylab.sweep.shards import Images
from raylab.training.checkpoint import load_model

MEASURES = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1"]


@pytest.fixture(scope="module")
def places(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same sweep over the same faces, with true and with poisoned test labels."""
    root = tmp_path_factory.mktemp("final")
    shutil.copytree(finished, root / "true")
    shutil.copytree(finished / "faces", root / "poisoned" / "faces")
    write_faces(root / "poisoned", poison=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(root / "true" / "cache"))
        assert run(root / "poisoned").exit_code == 0
    return {"true": root / "true", "poisoned": root / "poisoned"}


@pytest.fixture(autouse=True)
def cache(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(places["true"] / "cache"))


@pytest.fixture(scope="module")
def scored(places: dict[str, Path]) -> dict[str, dict]:
    """What `final` says of both; the first look at either test split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(places["true"] / "cache"))
        return {
            name: run_final(FinalOptions(str(place / "results"), quiet=True))
            for name, place in places.items()
        }


def rows_of(place: Path) -> pd.DataFrame:
    """The epochs with their trial's config, in an order that does not depend on the identity."""
    results = ResultsDirectory(place / "results")
    names = {"trial_id": "trial_id", "lr": "peak_lr", "seed": "seed", "num_val": "num_val"}
    board = results.leaderboard().to_pandas().rename(columns=names)[list(names.values())]
    rows = results.epochs().to_pandas().merge(board, on="trial_id")
    return rows.sort_values(["peak_lr", "seed", "epoch"])


def test_poisoned_test_labels_change_no_bit_of_a_sweep(places: dict[str, Path]) -> None:
    true, poisoned = rows_of(places["true"]), rows_of(places["poisoned"])
    assert len(true) == 8
    columns = [*MEASURES, "lr", "peak_lr", "seed", "num_val"]
    assert (true[columns].to_numpy() == poisoned[columns].to_numpy()).all()
    pairs = zip(true["trial_id"], poisoned["trial_id"], strict=True)
    for mine, other in set(pairs):
        first = ResultsDirectory(places["true"] / "results").predictions(mine)
        assert first.equals(ResultsDirectory(places["poisoned"] / "results").predictions(other))


def test_training_for_the_test_sees_none_of_its_labels(
    places: dict[str, Path], scored: dict[str, dict]
) -> None:
    weights = [
        load_file(place / "results" / scored[name]["models"][0]["model"] / "model.safetensors")
        for name, place in places.items()
    ]
    assert all((weights[1][key] == value).all() for key, value in weights[0].items())
    assert scored["true"]["test"]["confusion"] != scored["poisoned"]["test"]["confusion"]


def test_the_winner_is_retrained_and_scored_with_an_interval(
    places: dict[str, Path], scored: dict[str, dict]
) -> None:
    place, report = places["true"], scored["true"]
    assert json.loads((place / "results" / "final.json").read_text()) == report
    board = pd.read_parquet(place / "results" / "leaderboard.parquet")
    (model,) = report["models"]
    means = board.groupby("family_id")["val_accuracy"].mean()
    assert means[model["family_id"]] == means.max() == model["chosen_by"]["mean"]
    labels = Counter(row["split"] for row in write_faces(place))
    assert model["num_train"] == labels["train"] + labels["val"]
    test = report["test"]
    assert test["num_images"] == labels["test"] == np.sum(test["confusion"])
    assert test["accuracy"] == np.trace(test["confusion"]) / labels["test"]
    assert test["accuracy_low"] < test["accuracy"] < test["accuracy_high"]
    kept = load_model(place / "results" / model["model"])
    assert kept.config.lr == model["config"]["lr"]
    assert list(kept.classes) == test["classes"]
    assert not kept.network.training


def test_a_second_scoring_is_refused_unless_asked_for_and_then_counted(
    places: dict[str, Path], scored: dict[str, dict]
) -> None:
    results = str(places["poisoned"] / "results")
    refused = CliRunner().invoke(app, ["final", results])
    assert refused.exit_code == 2
    assert "--again" in refused.output
    again = CliRunner().invoke(app, ["final", results, "--again", "--json", "--quiet"])
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert report["scorings"] == 2
    assert [look["looks"] for look in report["history"]] == [1, 1]
    assert report["test"] == scored["poisoned"]["test"]


@pytest.mark.slow
def test_every_family_that_is_scored_is_a_look_and_an_ensemble_is_one(
    places: dict[str, Path], scored: dict[str, dict]
) -> None:
    results, before = str(places["true"] / "results"), scored["true"]
    best = run_final(FinalOptions(results, top=2, again=True, quiet=True))
    assert best["scorings"] == 3
    assert len(best["models"]) == 2
    assert best["test"] == best["models"][0]["test"] == before["test"]
    both = run_final(FinalOptions(results, ensemble=2, again=True, quiet=True))
    assert both["scorings"] == 4
    assert [look["looks"] for look in both["history"]] == [1, 2, 1]
    assert all("test" not in model for model in both["models"])
    assert both["test"]["num_images"] == before["test"]["num_images"]


def test_data_that_has_changed_or_gone_is_refused(places: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(places["true"] / "results", tmp_path / "results")
    (tmp_path / "results" / "final.json").unlink(missing_ok=True)
    other = FinalOptions(str(tmp_path / "results"), data=str(places["poisoned"] / "faces.csv"))
    with pytest.raises(Refused, match="data fingerprint"):
        run_final(other)
    with pytest.raises(Refused, match="does not exist"):
        run_final(FinalOptions(str(tmp_path / "results"), data=str(tmp_path / "gone")))
    assert not (tmp_path / "results" / "final.json").exists()


def test_a_sweep_of_other_labels_that_began_since_changes_no_score(
    places: dict[str, Path], scored: dict[str, dict], tmp_path: Path
) -> None:
    shutil.copytree(places["true"] / "results", tmp_path / "results")
    shutil.copy(places["poisoned"] / "results" / "images.parquet", tmp_path / "results")
    again = run_final(FinalOptions(str(tmp_path / "results"), again=True, quiet=True))
    assert again["test"] == scored["true"]["test"]


def test_more_families_than_there_are_and_two_questions_at_once_are_refused(
    places: dict[str, Path],
) -> None:
    results = str(places["true"] / "results")
    with pytest.raises(Refused, match="2 families"):
        run_final(FinalOptions(results, top=3, again=True))
    with pytest.raises(Refused, match="--ensemble"):
        run_final(FinalOptions(results, top=2, ensemble=2, again=True))


def job_of(
    place: Path,
    fingerprint: str | None = None,
    test: float = 0.1,
    strategy: str = "stratified",
    **fields: str,
) -> Job:
    """What retraining a trial of this split takes, which named that fingerprint; the source names
    training images alone.
    """
    source = scan("toy:num=140")
    table = source.table.append_column("status", [["ok"] * source.num_images])
    given = pa.array(["train"] * source.num_images)
    table = table.set_column(table.column_names.index("given_split"), "given_split", given)
    images = Images.of(table, source.classes, source.fingerprint)
    split = {"train": 0.8, "test": test, "strategy": strategy}
    config = TrialConfig.model_validate({"epochs": 1, "split": split, **fields})
    found = split_fingerprint(images.split(config.split), images.image_ids)
    epochs = [{"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}]
    record = record_from(
        config, source.fingerprint, fingerprint or found, epochs, "complete", num_val=14
    )
    (family,) = ranked_families([record], "val_accuracy")
    return job_for(family, images, ResultsDirectory(place))


@pytest.mark.parametrize(
    ("fraction", "fingerprint", "strategy", "text"),
    [
        (0.0, None, "stratified", "no test images; set split.test > 0"),
        (0.1, None, "given", "no test images; name some in the source, or set split.strategy: str"),
        (0.1, "another", "stratified", "comes out otherwise"),
    ],
)
def test_a_split_that_locks_nothing_or_is_another_one_is_refused(
    fraction: float, fingerprint: str | None, strategy: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=text):
        job_of(tmp_path, fingerprint, fraction, strategy)


def test_a_test_split_that_the_parent_learned_is_refused(tmp_path: Path) -> None:
    results, ids = ResultsDirectory(tmp_path), scan("toy:num=140").table["image_id"].to_pylist()
    parent = record_from(TrialConfig(), "data", "its split", [], "complete")
    results.add(parent)
    for name in ("model.safetensors", "model.json"):
        results.checkpoint(parent.trial_id).write_bytes(name, b"")
    begun = f"trial:{parent.trial_id}"
    locked = set(np.take(ids, job_of(tmp_path, pretrained=begun).test))
    for learned, is_refused in ((set(ids) - locked, False), (set(ids[:70]) | locked, True)):
        sides = ["train" if image_id in learned else "val" for image_id in ids]
        results.write_split("its split", pa.table({"image_id": ids, "split": sides}))
        if is_refused:
            with pytest.raises(Refused, match=rf"trained on {len(locked)} images .* held out"):
                job_of(tmp_path, pretrained=begun)
        else:
            job_of(tmp_path, pretrained=begun)


def test_a_record_gives_way_to_the_one_of_what_its_config_means_today() -> None:
    now = record_from(TrialConfig(), "data", "split", [], "complete")
    then, alone = (
        replace(record_from(TrialConfig(lr=lr), "data", "split", [], "complete"), trial_id=name)
        for lr, name in ((TrialConfig().lr, "then"), (0.5, "alone"))
    )
    assert latest([then, now, alone]) == [now, alone]


def test_weights_suspects_or_a_teacher_that_are_others_now_are_refused(tmp_path: Path) -> None:
    ids, path = scan("toy:num=140").table["image_id"].to_pylist(), tmp_path / "suspects.parquet"
    pq.write_table(pa.table({"image_id": ids[:40]}), path)
    assert len(job_of(tmp_path, drop_suspects=str(path)).train) < 126
    with pytest.raises(Refused, match=r"drop_suspects: .* its content has changed") as refused:
        job_of(tmp_path, drop_suspects=str(path), drop_suspects_digest="0" * 16)
    assert refused.value.exit_code == 2
    with pytest.raises(Refused, match=r"weights file .* does not exist"):
        job_of(tmp_path, pretrained=str(tmp_path / "gone.pth"))
    probs = np.full((140, 7), 1 / 7, dtype=np.float32)
    path = tmp_path / "teacher.parquet"
    pq.write_table(teacher_table(ids, probs, scan("toy:num=140").classes), path)
    with pytest.raises(Refused, match=r"trained on \d+ images which are held out"):
        job_of(tmp_path, teacher=str(path))


def test_beside_an_ensembles_score_stands_no_members_validation() -> None:
    test = score(np.array([0, 1]), np.eye(2, dtype=np.float32), ("a", "b"))
    why = {"metric": "val_accuracy", "mean": 0.5, "complete_trials": 1, "recorded_trials": 1}
    model = {"rank": 1, "name": "lr 0.1", "chosen_by": why, "num_train": 9, "epochs": 2}
    model |= {"model": "final/a", "val_accuracy": 0.5}
    report = {"what": "winner", "num_families": 1, "test": test, "scorings": 1}
    assert "val accuracy   0.5000" in final_text(report | {"models": [model | {"test": test}]})
    assert "val accuracy  " not in final_text(report | {"models": [model | {"weight": 1.0}]})


def test_the_score_knows_a_class_without_test_images() -> None:
    probs = np.eye(3, dtype=np.float32)[[0, 1, 1, 0]]
    found = score(np.array([0, 0, 1, 0]), probs, ("a", "b", "c"))
    assert found["accuracy"] == 0.75
    assert found["recall"] == {"a": pytest.approx(2 / 3), "b": 1.0, "c": None}
    assert found["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
