"""The functions for notebooks: light to import, values out, errors as exceptions."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from test_predict import kept

import raylab
from raylab.api.models import Model, as_list, as_picture, best_kept, png
from raylab.api.sweeps import SweepResults, as_yaml, read_any
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.decode import decode
from raylab.images.faces import Face
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from

torch.set_num_threads(1)

HEAVY = "print([m for m in ('ray', 'torch', 'pandas', 'pydantic', 'yaml') if m in sys.modules])"


def untrained(folder: Path, **fields: object) -> Model:
    """A model as `raylab sweep` keeps one."""
    return Model(kept(folder, **fields), "0123456789ab")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, raylab; {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_import_raylab_loads_nothing_and_dir_names_what_there_is() -> None:
    assert python(HEAVY) == "[]"
    assert {"sweep", "leaderboard", "load_model", "__version__"} <= set(dir(raylab))
    with pytest.raises(AttributeError, match="swep"):
        raylab.swep  # noqa: B018


def test_a_leaderboard_loads_neither_ray_nor_torch() -> None:
    assert python(f"raylab.leaderboard; {HEAVY}") == "['pandas', 'pydantic', 'yaml']"


def test_sweep_is_a_function_and_still_the_package() -> None:
    assert (
        python("import raylab.sweep.growth as s; print(callable(raylab.sweep), s.__name__)")
        == "True raylab.sweep.growth"
    )


def test_leaderboard_is_a_ranked_frame(finished: Path) -> None:
    board = raylab.leaderboard(str(finished / "results"))
    assert isinstance(board, pd.DataFrame)
    assert list(board["rank"]) == [1, 2, 3, 4]
    assert board["val_accuracy"].is_monotonic_decreasing
    assert board["tied"].iloc[0] == "yes"


def test_a_grid_may_be_a_mapping_and_its_mistakes_are_exceptions(finished: Path) -> None:
    grid = {"name": "mine", "data": str(finished / "faces.csv"), "axes": {"lr": [1e-5, 1e-3]}}
    wanted = read_any(grid, None, {"trial.epochs": 3, "seeds": [0, 1], "trial.augment": "light"})
    assert (wanted.name, wanted.axes["lr"], wanted.seeds) == ("mine", (1e-5, 1e-3), (0, 1))
    assert wanted.trial == {"epochs": 3, "augment": "light"}
    with pytest.raises(Refused, match=r"grid:\d+  axes.lrr: no such field"):
        read_any({**grid, "axes": {"lrr": [1]}}, None, {})
    with pytest.raises(Refused, match="as a Ray job"):
        raylab.sweep(grid, address="http://head:8265")


def test_what_a_notebook_holds_may_stand_in_a_grid(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    grid = {
        "data": tmp_path / "faces",
        "trial": {"epochs": np.int64(3)},
        "axes": {"lr": list(np.logspace(-4, -2, 3)), "augment": ("none", "flip")},
        "seeds": range(3),
    }
    wanted = read_any(grid, None, {})
    assert wanted.data == str(tmp_path / "faces")
    assert wanted.trial == {"epochs": 3}
    assert dict(wanted.axes) == {"lr": (1e-4, 1e-3, 1e-2), "augment": ("none", "flip")}
    assert wanted.seeds == (0, 1, 2)
    given = {"axes.lr": np.array([0.5]), "seeds": range(2), "trial.epochs": np.int64(4)}
    wanted = read_any({"data": "toy"}, tmp_path / "faces", given)
    assert (wanted.axes["lr"], wanted.seeds, wanted.trial["epochs"]) == ((0.5,), (0, 1), 4)
    assert wanted.data == str(tmp_path / "faces")
    assert as_yaml("lr", np.float64(0.25)) == "0.25"


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.001, 0.1], dtype=np.float32),
        [np.float32(0.001), np.array(0.1)],
        pd.Series([0.001, 0.1]),
        torch.tensor([0.001, 0.1]),
        (10.0**k for k in (-3, -1)),
    ],
)
def test_numbers_come_out_as_they_are_written_whatever_holds_them(values: Any) -> None:
    wanted = read_any({"data": "toy", "axes": {"lr": values}}, None, {})
    assert wanted.axes["lr"] == (0.001, 0.1)


def test_what_no_grid_holds_is_refused_with_its_place() -> None:
    with pytest.raises(Refused, match=r"grid\.axes\.lr  Decimal\('0.1'\) is a Decimal"):
        read_any({"data": "toy", "axes": {"lr": [Decimal("0.1")]}}, None, {})
    with pytest.raises(Refused, match=r"trial\.lr  Decimal"):
        read_any({"data": "toy"}, None, {"trial.lr": Decimal("0.1")})
    with pytest.raises(Refused, match="data  a DataFrame is no path"):
        read_any({"data": "toy"}, pd.DataFrame(), {})  # type: ignore[arg-type]
    with pytest.raises(Refused, match="grid  a NoneType is no path"):
        read_any(None, None, {})  # type: ignore[arg-type]


def test_a_leaderboard_is_ranked_as_its_grid_says(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    for lr, accuracy, loss in ((0.1, 0.5, 0.2), (0.2, 0.7, 1.5)):
        row = {"epoch": 1, "val_accuracy": accuracy, "val_loss": loss, "seconds": 1.0}
        results.add(record_from(TrialConfig(lr=lr), "d", "split", [row], "complete", num_val=50))
    assert list(raylab.leaderboard(tmp_path)["lr"]) == [0.2, 0.1]
    results.write_grid({"name": "r", "metric": "val_loss"})
    assert list(raylab.leaderboard(tmp_path)["lr"]) == [0.1, 0.2]
    assert list(raylab.leaderboard(tmp_path, by="val_accuracy")["lr"]) == [0.2, 0.1]
    with pytest.raises(Refused, match="no results"):
        raylab.leaderboard()


def test_a_sweep_that_was_stopped_before_its_first_trial_shows_itself(tmp_path: Path) -> None:
    stopped = SweepResults(str(tmp_path), "val_accuracy", (), interrupted=True)
    assert stopped._repr_html_() == "no trial has ended yet"


def test_files_of_a_mapping_lie_where_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("w.pth", "suspects.parquet", "teacher.parquet"):
        (tmp_path / name).write_bytes(b"")
    for name in ("faces", "others"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    named = {"pretrained": "w.pth", "drop_suspects": "suspects.parquet"}
    grid = {
        "data": "faces",
        "trial": {**named, "teacher": "teacher.parquet"},
        "axes": {"lr": {"uniform": [0.1, 0.2]}},
        "search": {"optuna": {"num_trials": 1, "warm_start": "faces"}},
    }
    wanted = read_any(grid, None, {})
    assert wanted.trial["pretrained"] == str(tmp_path / "w.pth")
    assert wanted.trial["drop_suspects"] == str(tmp_path / "suspects.parquet")
    assert wanted.trial["teacher"] == str(tmp_path / "teacher.parquet")
    assert wanted.data == wanted.search.warm_start == str(tmp_path / "faces")
    assert read_any(grid, None, {"data": "others"}).data == str(tmp_path / "others")
    assert read_any(grid, "others", {}).data == str(tmp_path / "others")
    with pytest.raises(Refused, match=r"grid:\d+  data: 'gone' does not exist"):
        read_any({**grid, "data": "gone"}, None, {})


def test_a_sweep_that_is_finished_comes_back_with_everything(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(finished / "cache"))
    place = str(finished / "results")
    ran = raylab.sweep(finished / "grid.yaml", results=place, quiet=True)
    assert isinstance(ran, SweepResults)
    assert len(ran.records) == 4
    assert ran.failed() == {}
    assert "<table" in ran._repr_html_()
    assert ran.load_model().trial_id in ResultsDirectory(place).checkpoint_ids()


def test_a_model_answers_to_paths_pictures_and_arrays_alike(finished: Path) -> None:
    model = raylab.load_model(str(finished / "results"))
    files = sorted(str(path) for path in (finished / "faces").rglob("*.png"))[:3]
    by_path = model.predict(files)
    assert list(by_path["image"]) == files
    assert list(by_path.columns[2:]) == [f"p_{name}" for name in model.classes]
    probs = by_path.filter(like="p_").to_numpy()
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    pictures = [Image.open(file) for file in files]
    assert np.array_equal(model.predict(pictures).filter(like="p_").to_numpy(), probs)
    arrays = [np.asarray(picture) for picture in pictures]
    assert np.array_equal(model.predict(arrays).filter(like="p_").to_numpy(), probs)
    assert len(model.predict(files[0])) == len(model.predict(arrays[0])) == 1
    assert "cnn at 16 px" in repr(model)


def test_a_picture_of_any_mode_is_decoded_as_its_file(tmp_path: Path) -> None:
    pixels = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(24, 16, 3)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=turned)
    content = (tmp_path / "phone.png").read_bytes()
    assert np.array_equal(
        decode(png(Image.open(tmp_path / "phone.png")), 8, 3), decode(content, 8, 3)
    )
    assert decode(png(Image.fromarray(pixels).convert("CMYK")), 8, 3).shape == (8, 8, 3)
    assert decode(png(as_picture(pixels[:, :1, 0])), 8, 1).shape == (
        8,
        8,
        1,
    )  # (H, 1) is grey, not (H, W, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_an_array_of_one_picture_is_one_picture_also_with_alpha(mode: str, tmp_path: Path) -> None:
    picture = Image.effect_noise((48, 40), 60).convert(mode)
    array = np.asarray(picture)
    (one,) = as_list(array)
    assert one is array
    picture.save(tmp_path / "file.png")
    content = (tmp_path / "file.png").read_bytes()
    assert np.array_equal(decode(png(as_picture(one)), 8, 3), decode(content, 8, 3))
    assert len(as_list(np.stack([array, array]))) == 2


@pytest.mark.parametrize("mode", ["I", "F", "I;16B", "CMYK", "YCbCr"])
def test_a_picture_that_no_png_keeps_is_decoded_as_its_tiff(mode: str, tmp_path: Path) -> None:
    grey = np.arange(24 * 16, dtype=np.uint16).reshape(24, 16) * 150
    if mode == "I;16B":
        picture = Image.frombytes(mode, (16, 24), grey.astype(">u2").tobytes())
    elif mode in ("I", "F"):
        deep = grey.astype(np.int32) if mode == "I" else (grey / 2**16).astype(np.float32)
        picture = Image.fromarray(deep)
    else:
        picture = Image.effect_noise((16, 24), 60).convert("RGB").convert(mode)
    picture.save(tmp_path / "file.tif")
    wanted = decode((tmp_path / "file.tif").read_bytes(), 8, 3)
    assert np.array_equal(decode(png(picture), 8, 3), wanted)
    assert wanted.std() > 5


def test_premultiplied_grey_is_laid_over_white() -> None:
    clear = Image.new("LA", (8, 8), (7, 0)).convert("La")
    assert (decode(png(clear), 8, 1) == 255).all()


def test_one_torn_picture_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained(tmp_path / "model")
    noise = Image.effect_noise((48, 40), 60).convert("RGB")
    noise.save(tmp_path / "whole.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:800])
    pictures = [Image.open(tmp_path / f"{name}.jpg") for name in ("torn", "whole")]
    frame = model.predict(pictures)
    assert list(frame["image"]) == [1]
    assert "truncated" in frame.attrs["unreadable"][0]
    with pytest.raises(Refused, match=r"image 0  .*truncated.*\n.*nothing was predicted"):
        model.predict(Image.open(tmp_path / "torn.jpg"))
    monkeypatch.setattr("raylab.images.decode.MAX_PIXELS", 1000)
    with pytest.raises(Refused, match="is more than 1,000 pixels"):
        model.predict([noise])


def test_who_shows_no_face_to_a_model_of_faces_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylab.training.predict.is_installed", lambda: True)
    monkeypatch.setattr(
        "raylab.images.crop.find_face",
        lambda image: Face(0, 0, 20, 20) if image.width > 40 else None,
    )
    model = untrained(tmp_path / "model", crop="face")
    pictures = [Image.effect_noise((side, 40), 60) for side in (48, 32)]
    files = [tmp_path / f"{picture.width}.png" for picture in pictures]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    assert model.predict(pictures).attrs["faceless"] == [1]
    assert model.predict(files).attrs["faceless"] == [str(files[1])]


def test_an_array_of_five_channels_is_no_picture() -> None:
    (one,) = as_list(np.zeros((1, 8, 8, 5), dtype=np.uint8))
    with pytest.raises(Refused, match="give uint8"):
        as_picture(one)


def test_the_best_model_is_found_without_a_grid(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    assert best_kept(results) is None
    for lr, accuracy in ((0.1, 0.5), (0.2, 0.7), (0.3, 0.6)):
        row = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
        record = record_from(TrialConfig(lr=lr), "data", "split", [row], "complete", num_val=50)
        results.add(record)
        if accuracy != 0.7:  # its weights were not kept
            results.checkpoint(record.trial_id).write_bytes("model.json", b"{}")
        if accuracy == 0.6:
            expected = record.trial_id
    assert best_kept(results) == expected


def test_a_better_model_of_data_that_has_changed_since_is_not_the_best(tmp_path: Path) -> None:
    results, ids = ResultsDirectory(tmp_path), []
    for data, accuracy, day in (("leaky", 0.9, 1), ("clean", 0.6, 2), ("newer", 0.7, 3)):
        row = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
        started = f"2025-01-0{day}"
        record = record_from(TrialConfig(), data, "split", [row], "complete", started_at=started)
        results.add(record)
        ids.append(record.trial_id)
    for trial_id in ids[:2]:  # of the newest data nothing was kept yet
        results.checkpoint(trial_id).write_bytes("model.json", b"{}")
    assert best_kept(results) == ids[1]


def test_what_is_no_image_is_refused(finished: Path, tmp_path: Path) -> None:
    model = raylab.load_model(str(finished / "results"))
    with pytest.raises(Refused, match="give uint8"):
        model.predict(np.zeros((4, 4)))
    with pytest.raises(Refused, match="int is no image"):
        model.predict([3])
    good = next((finished / "faces").rglob("*.png"))
    assert list(model.predict([good, tmp_path / "none.png"]).attrs["unreadable"]) == [
        str(tmp_path / "none.png")
    ]
    with pytest.raises(Refused, match="holds no model"):
        raylab.load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no image was given"),
        (pd.DataFrame({"path": ["a.png"]}), "a table of path; give the column"),
        (np.zeros((3, 48, 40), dtype=np.uint8), r"uint8 \(3, 48, 40\); give .* as a list"),
        (np.zeros((0, 48, 3), dtype=np.uint8), r"uint8 \(0, 48, 3\)"),
        ("https://nowhere.invalid/a.jpg", "a.jpg  is no place .*\n.*nothing was predicted"),
        (["https://nowhere.invalid/faces", "no.png"], "faces  is no place .*\nno.png  cannot"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(given: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=said):
        untrained(tmp_path / "model").predict(given)


def test_a_file_at_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.effect_noise((8, 8), 60).save(tmp_path / "me.png")
    frame = untrained(tmp_path / "model").predict("~/me.png")
    assert list(frame["image"]) == [str(tmp_path / "me.png")]


def test_a_full_gpu_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained(tmp_path / "model")

    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(model.kept.network, "to", full)
    with pytest.raises(CannotFinish, match="set CUDA_VISIBLE_DEVICES= to predict on the CPU"):
        model.predict(np.zeros((8, 8), dtype=np.uint8))
