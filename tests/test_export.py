"""An exported model answers as the kept one, takes any batch, and comes with its card."""

import json
from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from test_predict import CPU, kept, run

from raylab.errors import CannotFinish
from raylab.results.card import About, model_card
from raylab.results.directory import ResultsDirectory
from raylab.training import export as exporting
from raylab.training.export import export_torch, preprocessing
from raylab.training.predict import predict_pixels

onnx_file = pytest.importorskip("raylab.training.onnx_file", exc_type=ModuleNotFoundError)


def images(num: int, size: int, channels: int) -> np.ndarray:
    """uint8 (num, size, size, channels)."""
    return np.random.default_rng(num).integers(0, 256, (num, size, size, channels), dtype=np.uint8)


def as_input(squares: np.ndarray) -> np.ndarray:
    """As the export's own description says: float32 (B, C, H, W), 0..1."""
    return np.ascontiguousarray(squares.transpose(0, 3, 1, 2), dtype=np.float32) / 255


@pytest.mark.parametrize(
    ("model", "channels", "tta"),
    [("cnn", 1, "none"), ("cnn", 3, "tencrop"), ("resnet10t", 3, "flip")],
)
def test_onnxruntime_says_what_predict_says(
    tmp_path: Path, model: str, channels: int, tta: str
) -> None:
    ort = pytest.importorskip("onnxruntime")
    trained = kept(tmp_path / "model", model=model, channels=channels, tta=tta, image_size=32)
    file = tmp_path / "m.onnx"
    assert onnx_file.export_onnx(trained, file, with_tta=True) < 1e-4
    assert [path.name for path in tmp_path.glob("m.*")] == ["m.onnx"]
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for num in (1, 3, 8):
        squares = images(num, 32, channels)
        (found,) = session.run(["probabilities"], {"images": as_input(squares)})
        wanted = predict_pixels(trained, trained.network, squares, CPU)
        assert found == pytest.approx(wanted, abs=1e-4)
        assert found.sum(1) == pytest.approx(np.ones(num), abs=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["angry", "기쁨", "sad"]
    assert told["tta"] == tta
    assert ("grey" in told["preprocessing"]) == (channels == 1)


def test_a_torch_program_says_what_predict_says(tmp_path: Path) -> None:
    trained = kept(tmp_path / "model", tta="flip", image_size=32)
    assert export_torch(trained, tmp_path / "m.pt2", with_tta=True) < 1e-4
    extra = {"classes.txt": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    squares = images(4, 32, 1)
    found = program(torch.from_numpy(as_input(squares))).numpy()
    assert found == pytest.approx(predict_pixels(trained, trained.network, squares, CPU), abs=1e-4)
    assert json.loads(extra["classes.txt"])[1] == "기쁨"


def test_without_tta_one_view_is_left(tmp_path: Path) -> None:
    trained = kept(tmp_path / "model", tta="flip", image_size=32)
    one_sided = torch.zeros(1, 1, 32, 32)
    one_sided[..., :8] = 1
    plain, mirrored = (exporting.deployed(trained, with_tta=on) for on in (False, True))
    with torch.no_grad():
        assert torch.allclose(mirrored(one_sided), mirrored(one_sided.flip(3)))
        assert not torch.allclose(plain(one_sided), plain(one_sided.flip(3)))


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_answers_otherwise_leaves_what_stood_there(
    tmp_path: Path, wrong: float
) -> None:
    trained = kept(tmp_path / "model", image_size=32)
    model = exporting.deployed(trained, with_tta=True)
    file = tmp_path / "m.onnx"
    file.write_bytes(b"good")
    answer = model(exporting.example(trained, 1)).detach().numpy() + wrong

    def export() -> None:
        with exporting.exported(trained, file) as unfinished:
            unfinished.touch()
            exporting.check(trained, model, lambda images: answer)

    with pytest.raises(CannotFinish, match="differ by"):
        export()
    assert file.read_bytes() == b"good"
    assert [path.name for path in tmp_path.glob("*m.onnx")] == ["m.onnx"]


@pytest.mark.parametrize("failing", ["torch.onnx.export", "onnxruntime.InferenceSession"])
def test_an_error_without_a_text_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    trained = kept(tmp_path / "model", image_size=32)

    def broken(*given: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr("torch.onnx.export", lambda *given, **named: MagicMock())
    monkeypatch.setattr(failing, broken)
    with pytest.raises(CannotFinish, match="cnn cannot be exported: AssertionError"):
        onnx_file.export_onnx(trained, tmp_path / "m.onnx", with_tta=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_verb_writes_the_file_and_its_card(finished: Path, tmp_path: Path) -> None:
    results = ResultsDirectory(finished / "results")
    trial = next(iter(results.checkpoint_ids()))
    record = next(r for r in results.records() if r.trial_id == trial)
    target = tmp_path / "new" / "faces.onnx"
    code, out, err = run("export", finished / "results", "--trial", trial, "-o", target)
    assert (code, out.strip()) == (0, str(target)), err
    card = (target.parent / "MODEL_CARD.md").read_text()
    assert card.startswith("# faces.onnx: cnn, 7 classes\n")
    assert f"Validation accuracy {record.val_accuracy:.4f}" in card
    assert f"{record.val_accuracy_low:.3f} to {record.val_accuracy_high:.3f}" in card
    table = results.predictions(trial)
    for name, count in Counter(table["label"].to_pylist()).items():
        assert f"\n| {name} | {count:,} | " in card
    for said in (
        "## Licence",
        "states no\nlicence",
        "not what the person felt",
        "Do not decide about",
    ):
        assert said in card


def test_what_cannot_be_written_is_refused_before_the_model_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path / "model")
    (tmp_path / "file").touch()
    monkeypatch.setattr("raylab.training.export.export_torch", None)
    monkeypatch.chdir(tmp_path)
    for wrong, said in (
        (tmp_path, "is a folder"),
        ("file/m.pt2", "which is a file"),
        ("s3://bucket/m.pt2", "on this machine"),
    ):
        code, out, err = run("export", "model", "--format", "torch_export", "-o", wrong)
        assert (code, out) == (2, "")
        assert said in err
        assert "nothing was written" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


def test_a_second_export_leaves_the_card_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path / "model")
    monkeypatch.setattr("raylab.training.export.export_torch", lambda *given, **named: 0.0)
    for name in ("one.pt2", "two.pt2", "one.pt2"):
        code, _, err = run(
            *("export", tmp_path / "model", "--format", "torch_export", "-o", tmp_path / name)
        )
        card = tmp_path / ("two.pt2.MODEL_CARD.md" if name == "two.pt2" else "MODEL_CARD.md")
        assert code == 0
        assert str(card) in err
        assert card.read_text().startswith(f"# {name}: cnn, 3 classes\n")
    assert len(list(tmp_path.glob("*MODEL_CARD.md"))) == 2


def test_a_card_without_results_says_that_it_does_not_know(tmp_path: Path) -> None:
    trained = kept(tmp_path / "model", pretrained=False)
    about = About("0123", "m.onnx", trained.config, trained.classes, preprocessing(trained), False)
    card = model_card(about, None)
    assert "Unknown here: the results of the sweep are not beside the model" in card
    assert "24 x 24 px" in card
