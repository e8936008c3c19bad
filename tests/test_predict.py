"""A kept model says of files what it said of the same images in its trial; exports say it too."""

import json
import os
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import fs
from typer.testing import CliRunner

from raylab import storage
from raylab.after.kept import Kept, boxes_given, find_kept
from raylab.cli import app
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.training.checkpoint import KeptModel, load_model, save_model
from raylab.training.epoch import Best
from raylab.training.loop import train
from raylab.training.model import build_model
from raylab.training.predict import is_folder, predict_files
from raylab.training.worker import Collective, TrainingData

torch.set_num_threads(1)

CPU = torch.device("cpu")
CLASSES = ("angry", "기쁨", "sad")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy faces at twice the size that models look at, and what is no image among them."""
    folder = tmp_path_factory.mktemp("faces")
    write_folder(folder / "faces", num=70, wrong=0.0, seed=0)
    (folder / "junk.png").write_bytes(b"no image")
    return folder


def kept(folder: Path, **fields: object) -> KeptModel:
    """An untrained model as `raylab sweep` keeps one."""
    given = {"model": "cnn", "image_size": 24, "channels": 1} | fields
    config = TrialConfig.model_validate(given)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, config, CLASSES, build_model(config, len(CLASSES)).state_dict())
    return load_model(folder)


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_files_get_the_very_probabilities_that_the_sweep_stored(finished: Path) -> None:
    results = ResultsDirectory(finished / "results")
    paths = {row["image_id"]: row["path"] for row in results.images().to_pylist()}
    for trial_id in sorted(results.checkpoint_ids()):
        stored = results.predictions(trial_id)
        files = [str(finished / paths[image]) for image in stored["image_id"].to_pylist()]
        found = predict_files(load_model(results.checkpoint(trial_id)), files, CPU)
        wanted = np.stack([stored[f"p_{name}"].to_numpy() for name in found.classes], axis=1)
        assert found.images == tuple(files)
        assert found.probs == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("tta", ["none", "flip", "fivecrop", "tencrop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_get_what_the_validation_said_with_any_tta(
    tmp_path: Path, channels: int, tta: str
) -> None:
    """Files of the trained size come back pixel for pixel, so that validation can be repeated."""
    side, num = 24, 40
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, side, side, channels), dtype=np.uint8)
    files = []
    for i, image in enumerate(images):
        files.append(str(tmp_path / f"{i:02d}.png"))
        Image.fromarray(image.squeeze()).save(files[-1])
    config = TrialConfig.model_validate(
        {"model": "cnn", "image_size": side, "channels": channels, "epochs": 1, "batch_size": 20}
        | {"tta": tta, "ema_decay": 0.9, "amp": "none"}
    )
    rows = np.arange(num)
    data = TrainingData(torch.from_numpy(images), rows % 3, rows[:20], rows[20:], CLASSES)
    best = Best()
    train(config, data, CPU, Collective(), lambda row, state: None, best=best)
    assert best.state is not None
    save_model(tmp_path, config, CLASSES, best.state)
    found = predict_files(load_model(tmp_path), files[20:], CPU)
    assert found.probs == pytest.approx(best.probs, abs=1e-6)


def test_what_cannot_be_read_is_told_and_the_rest_predicted(faces: Path, tmp_path: Path) -> None:
    kept(tmp_path / "model")
    code, out, err = run(
        *("predict", tmp_path / "model", faces / "faces", faces / "junk.png", "nowhere.jpg"),
        *("--format", "csv"),
    )
    frame = pd.read_csv(StringIO(out))
    assert code == 1
    assert list(frame.columns) == ["image", "label", "p_angry", "p_기쁨", "p_sad"]
    assert len(frame) == 70
    assert frame[["p_angry", "p_기쁨", "p_sad"]].sum(axis=1).to_numpy() == pytest.approx(
        1, abs=1e-5
    )
    assert err.splitlines() == [
        f"{faces / 'junk.png'}  not an image, or of an unknown format",
        "nowhere.jpg  cannot be read: No such file or directory",
    ]


def test_a_name_that_is_not_utf8_loses_no_answer(faces: Path, tmp_path: Path) -> None:
    kept(tmp_path / "model")
    name = os.fsencode(tmp_path) + b"/\xb1\xe2.png"
    with open(name, "wb") as file:
        file.write(next((faces / "faces").rglob("*.png")).read_bytes())
    code, out, _ = run("predict", tmp_path / "model", os.fsdecode(name), "--format", "csv")
    assert code == 0
    assert pd.read_csv(StringIO(out))["image"][0].endswith("/\ufffd\ufffd.png")


def test_all_readable_is_exit_0_and_none_is_exit_2(faces: Path, tmp_path: Path) -> None:
    kept(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    one = next((faces / "faces").rglob("*.png"))
    assert run("predict", tmp_path / "model", one)[0] == 0
    code, out, err = run("predict", tmp_path / "model", faces / "junk.png", tmp_path / "empty")
    assert (code, out) == (2, "")
    assert "no images in it" in err
    assert "2 problems in the images; nothing was predicted." in err


def test_top_k_and_the_formats_agree(faces: Path, tmp_path: Path) -> None:
    model = kept(tmp_path / "model")
    files = sorted(str(path) for path in (faces / "faces" / "happy").iterdir())[:3]
    probs = predict_files(model, files, CPU).probs
    at = ("predict", tmp_path / "model", *files)
    rows = json.loads(run(*at, "--format", "json", "--top", "2")[1])
    long = pd.read_csv(StringIO(run(*at, "--format", "csv", "--top", "2")[1]))
    lines = run(*at, "--top", "1")[1].splitlines()
    for i, row in enumerate(rows):
        ranked = np.argsort(-probs[i])
        names = [CLASSES[k] for k in ranked[:2]]
        assert (row["image"], row["label"]) == (files[i], names[0])
        assert list(row["probabilities"]) == names
        assert list(row["probabilities"].values()) == pytest.approx(probs[i][ranked[:2]], abs=1e-5)
        assert list(long.label[2 * i : 2 * i + 2]) == names
        assert lines[i] == f"{files[i]}  {names[0]} {probs[i].max():.3f}"


def test_many_images_are_batched_without_a_trace(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kept(tmp_path / "model", tta="flip")
    whole = predict_files(model, [str(faces / "faces"), str(faces / "junk.png")], CPU)
    monkeypatch.setattr("raylab.training.predict.IMAGES_PER_BATCH", 9)
    parts = predict_files(model, [str(faces / "faces"), str(faces / "junk.png")], CPU)
    assert parts.images == whole.images
    assert parts.probs == pytest.approx(whole.probs, abs=1e-6)
    assert parts.unreadable == whole.unreadable


def test_many_images_are_counted_while_they_are_seen(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path / "model")
    monkeypatch.setattr("raylab.training.predict.IMAGES_PER_BATCH", 40)
    monkeypatch.setattr("raylab.events.progress.HEARTBEAT_S", -1)
    _, _, err = run("predict", tmp_path / "model", faces / "faces")
    assert err.splitlines() == ["40 images seen so far", "70 images seen so far"]


def test_a_model_is_found_by_its_folder_or_by_enough_of_its_id(finished: Path) -> None:
    place = str(finished / "results")
    ids = sorted(ResultsDirectory(place).checkpoint_ids())
    kept = find_kept(place, ids[0][:8])
    assert kept.trial_id == ids[0]
    direct = find_kept(kept.folder.location)
    assert (direct.folder, direct.is_final) == (kept.folder, False)
    assert direct.results is not None
    assert direct.results.location == place
    with pytest.raises(Refused, match=rf"keeps {len(ids)} models; .*{ids[0]} \(val_accuracy 0\."):
        find_kept(place)
    with pytest.raises(Refused, match="no such trial"):
        find_kept(place, "zzz")
    with pytest.raises(Refused, match="holds no model"):
        find_kept(str(finished / "faces"))


def test_a_model_behind_a_uri_with_options_is_found_with_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = "?scheme=http&endpoint_override=localhost:9000"
    asked = []

    def opened(location: str) -> tuple[fs.FileSystem, str]:
        asked.append(location)
        path = location.removeprefix("s3://").removesuffix(options)
        return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), path

    monkeypatch.setattr(storage, "_open", opened)
    kept(tmp_path / "b/r/checkpoints/0123456789ab")
    kept(tmp_path / "b/r/final/0123456789ab")
    ResultsDirectory(tmp_path / "b/r").write_grid({"name": "r"})
    for model, trial in (
        ("s3://b/r", "0123"),
        ("s3://b/r/checkpoints/0123456789ab", None),
        ("s3://b/r/final/0123456789ab", None),
    ):
        found = find_kept(model + options, trial)
        assert found.trial_id == "0123456789ab"
        assert found.results is not None
        assert found.results.location == f"s3://b/r{options}"
        assert found.is_final == ("final" in model)
    assert all(location.endswith(options) for location in asked)


def test_a_model_that_is_not_whole_is_no_model_and_nobody_sees_a_traceback(
    faces: Path, tmp_path: Path
) -> None:
    results = ResultsDirectory(tmp_path)
    for trial_id in ("aaa", "bbb"):
        kept(Path(results.checkpoint(trial_id).location))
    image = next((faces / "faces").rglob("*.png"))
    results.checkpoint("aaa").delete("model.json")
    results.folder.write_bytes("checkpoints/.DS_Store", b"")
    assert run("predict", tmp_path, image)[0] == 0  # bbb, the one that is left
    folder = results.checkpoint("bbb")
    whole = folder.read_json("model.json")

    def told() -> str:
        code, out, err = run("predict", folder.location, image)
        assert (code, out, len(err.splitlines())) == (2, "", 2)
        assert err.startswith(f"{folder.location}  ")
        return err

    folder.write_json("model.json", whole | {"config": whole["config"] | {"newer": 3}})
    assert "newer" in told()
    folder.write_json("model.json", whole | {"precision": "float4"})
    assert "float4" in told()
    folder.write_json("model.json", whole | {"classes": ["a", "b"]})
    assert "size mismatch" in told()
    folder.write_bytes("model.json", b'{"config"')
    assert "copy it anew" in told()
    folder.write_json("model.json", whole)
    folder.write_bytes("model.safetensors", folder.read_bytes("model.safetensors")[:-9])
    assert "copy it anew" in told()
    folder.delete("model.safetensors")
    assert "model.safetensors is missing" in told()


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("s3://my.bucket", True),
        ("s3://b/faces-v1.2?region=eu.west", True),
        ("s3://b/faces", True),
        ("s3://b/faces/a.JPG?region=eu", False),
    ],
)
def test_a_uri_is_a_folder_unless_it_ends_as_an_image_does(place: str, is_one: bool) -> None:
    assert is_folder(place) == is_one


def test_boxes_that_a_source_gave_are_counted(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    place = Kept(results.checkpoint("aaa"), results)
    assert boxes_given(place) == 0
    results.write_images(pa.table({"image_id": ["a", "b", "c"], "face": ["given", "found", None]}))
    assert boxes_given(place) == 1
    assert boxes_given(Kept(place.folder, None)) == 0
