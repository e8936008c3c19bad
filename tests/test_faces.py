"""`crop: face`: the largest face of a scene, levelled, the same in training and in `predict`."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw

from raylab.config.grid import read_grid
from raylab.errors import Refused
from raylab.forecast.overview import Question, overview
from raylab.images import crop as crop_module
from raylab.images import faces as faces_module
from raylab.images.crop import MARGIN_FRAC, crop_problem, cut_out, look
from raylab.images.decode import decode
from raylab.images.faces import Face, find_face
from raylab.images.prepare import as_array, find_variant
from raylab.images.source import Source, scan
from raylab.images.variant import Format, variant_id
from raylab.results.directory import ResultsDirectory
from raylab.results.outline import plan_text
from raylab.storage import Folder
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Options, run_sweep
from raylab.training import predict as predict_module
from raylab.training.checkpoint import load_model
from raylab.training.export import preprocessing
from raylab.training.predict import decode_file, predict_files

FOUND = (6, 12, 14, 15, 16, 19, 24, 25, 27, 28, 33, 51, 61, 63, 73, 75)
"""Rows of toy:num=100 whose drawn face the detector takes for one, wherever it stands."""
SCENE = (320, 240)


@cache
def toy() -> Source:
    return scan("toy:num=100")


@cache
def drawn(row: int) -> Image.Image:
    return Image.open(io.BytesIO(toy().table["pixels"][row].as_py())).convert("RGB")


def scene(*faces: tuple[int, int, int, int], size: tuple[int, int] = SCENE) -> Image.Image:
    """faces: (row of the toy faces, left, top, side)."""
    image = Image.new("RGB", size, (90, 110, 130))
    for row, left, top, side in faces:
        face = drawn(row).resize((side, side), Image.Resampling.BICUBIC)
        image.paste(face, (left, top))
    return image


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def middle(face: Face | None) -> tuple[float, float]:
    assert face is not None
    return face.left + face.width / 2, face.top + face.height / 2


@pytest.mark.parametrize("scale", [1, 6])
def test_the_largest_face_is_found_at_its_place_in_a_small_and_a_large_picture(scale: int) -> None:
    image = scene((6, 20, 130, 60), (61, 170, 40, 120))
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.BICUBIC)
    face = find_face(image)
    assert middle(face) == pytest.approx((230 * scale, 100 * scale), abs=15 * scale)
    assert face is not None
    assert 60 * scale < max(face.width, face.height) < 150 * scale


@pytest.mark.parametrize("tilt_deg", [-20, 20])
def test_the_eyes_of_what_is_cut_out_are_level(tilt_deg: int) -> None:
    upright = scene((61, 100, 60, 120))
    tilted = upright.rotate(-tilt_deg, Image.Resampling.BICUBIC, fillcolor=(90, 110, 130))
    face, before = find_face(tilted), find_face(upright)
    assert face is not None
    assert before is not None
    assert face.tilt_deg - before.tilt_deg == pytest.approx(tilt_deg, abs=6)
    again = find_face(cut_out(tilted, face).resize((240, 240)))
    assert again is not None
    assert abs(again.tilt_deg) <= 5


def test_a_picture_that_was_turned_by_its_camera_gives_the_same_face() -> None:
    image = scene((61, 170, 40, 120))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = image.transpose(Image.Transpose.ROTATE_90)
    form = Format(48, 3, "face")
    upright, turned = look(encoded(image), form), look(encoded(lying, exif=exif), form)
    assert (turned.face, turned.width, turned.height) == ("found", *SCENE)
    assert (turned.pixels == upright.pixels).all()
    assert np.abs(turned.pixels.astype(float) - decode(encoded(image), 48, 3)).mean() > 15


def test_the_face_of_a_grey_picture_is_found_and_both_depths_show_it() -> None:
    content = encoded(scene((61, 170, 40, 120)).convert("L"))
    grey, rgb = look(content, Format(32, 1, "face")), look(content, Format(32, 3, "face"))
    assert (grey.face, grey.pixels.shape, rgb.pixels.shape) == ("found", (32, 32, 1), (32, 32, 3))
    assert (grey.pixels == rgb.pixels).all()


@pytest.mark.parametrize("size", [(48, 48), (8, 8), (1, 1), (2000, 30), (333, 500)])
def test_an_image_without_a_face_is_kept_whole(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise))
    seen = look(content, Format(24, 3, "face"))
    assert seen.face == "none"
    assert (seen.pixels == decode(content, 24, 3)).all()


def test_a_given_box_is_cut_out_with_its_margin_and_the_edge_goes_on_outside() -> None:
    image = Image.new("RGB", (100, 80), (10, 20, 30))
    ImageDraw.Draw(image).rectangle((0, 20, 39, 59), fill=(200, 0, 0))  # 40 x 40 px, at the edge
    side = round(40 * (1 + 2 * MARGIN_FRAC))
    seen = look(encoded(image), Format(side, 3, "face"), (0, 20, 40, 40))
    assert seen.face == "given"
    red = seen.pixels[..., 0] == 200
    assert red[4:-4, :-4].all()  # the left margin repeats the edge
    assert not red[:4].any()
    assert not red[:, -4:].any()
    assert look(encoded(image), Format(side, 3, "face"), (100, 20, 40, 40)).face == "none"
    assert look(encoded(image), Format(side, 3, "none"), (0, 20, 40, 40)).face is None


def test_formats_without_a_crop_keep_the_names_of_their_variants() -> None:
    # A change here prepares all images of everybody anew: raise PREPARE_VERSION knowingly.
    assert variant_id(toy(), Format(16, 1)) == "59b66b6af049b273"
    assert variant_id(toy(), Format(16, 1, "face")) != variant_id(toy(), Format(16, 1))


def write_manifest(place: Path, boxes: list[str], columns: str = "box_x,box_y,box_w,box_h") -> Path:
    """Two classes of one picture each; box: four cells."""
    for name, row in (("a", 6), ("b", 61)):
        scene((row, 170, 40, 120)).save(place / f"{name}.png")
    lines = [f"path,label,{columns}"]
    lines += [f"{'ab'[i % 2]}.png,{'ab'[i % 2]},{box}" for i, box in enumerate(boxes)]
    (place / "faces.csv").write_text("\n".join(lines))
    return place / "faces.csv"


def test_the_boxes_of_a_manifest_are_part_of_the_data(tmp_path: Path) -> None:
    first = scan(str(write_manifest(tmp_path, ["170,40,120,120", ",,,"])))
    assert first.table["box"].to_pylist() == [[170, 40, 120, 120], None]
    other = scan(str(write_manifest(tmp_path, ["171,40,120,120", ",,,"])))
    plain = scan(str(write_manifest(tmp_path, [",,,", ",,,"])))
    assert len({each.fingerprint for each in (first, other, plain)}) == 3
    form = Format(16, 1, "face")
    assert len({variant_id(each, form) for each in (first, other, plain)}) == 3
    assert len({variant_id(each, Format(16, 1)) for each in (first, other, plain)}) == 1


@pytest.mark.parametrize(
    ("box", "columns", "message"),
    [
        ("170,40,120,", "box_x,box_y,box_w,box_h", r"csv:2  box_h: '' is no number of pixels"),
        ("170,40,0,9", "box_x,box_y,box_w,box_h", r"csv:2  box_w 0, box_h 9: both must be > 0"),
        ("170,40,120", "box_x,box_y,box_w", r"csv:1  no column 'box_h'; the box of a face is"),
    ],
)
def test_a_box_that_is_none_is_told_with_its_line(
    tmp_path: Path, box: str, columns: str, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        scan(str(write_manifest(tmp_path, [box, box], columns)))


def plan_of(place: Path, data: str, trial: str = "crop: face", axes: str = "") -> Plan:
    settings = "model: cnn, image_size: 16, channels: 1, epochs: 1, batch_size: 8, amp: none"
    axes = f"axes: {{{axes}}}\n" if axes else ""
    (place / "g.yaml").write_text(f"name: g\ndata: {data}\ntrial: {{{settings}, {trial}}}\n{axes}")
    sweep = read_grid(place / "g.yaml")
    return Plan(sweep, scan(sweep.data))


def test_without_the_detector_faces_are_refused_unless_all_have_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_module, "is_installed", lambda: False)
    some = write_manifest(tmp_path, ["170,40,120,120", ",,,"])
    with pytest.raises(Refused, match=r"crop  face needs a detector .* 'raylab\[faces\]'"):
        plan_of(tmp_path, str(some))
    for axes in ("crop: [none, face]", "lr: [0.1, 0.2], crop: [face]"):
        with pytest.raises(Refused, match=r"pip install 'raylab\[faces\]'"):
            plan_of(tmp_path, str(some), "crop: none", axes)
    plan_of(tmp_path, "toy:num=100", "crop: none")
    assert crop_problem(scan(str(write_manifest(tmp_path, ["170,40,120,120"] * 2)))) is None


def test_two_faces_of_one_image_are_refused(tmp_path: Path) -> None:
    boxes = ["170,40,120,120", ",,,", "10,40,50,50"]
    with pytest.raises(Refused, match=r"a\.png has two boxes in the manifest"):
        plan_of(tmp_path, str(write_manifest(tmp_path, boxes)))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Two classes of scenes with a face somewhere, and one picture of nothing."""
    rng = np.random.default_rng(0)
    for label in ("기쁨", "슬픔"):
        (tmp_path / "얼굴" / label).mkdir(parents=True)
    for i in range(16):
        left, top = int(rng.integers(0, 200)), int(rng.integers(0, 120))
        label = "기쁨" if i % 2 else "슬픔"
        picture = scene((FOUND[i], left, top, 110))
        picture.save(tmp_path / "얼굴" / label / f"사진 {i}.png")
    scene().save(tmp_path / "얼굴" / "슬픔" / "빈 방.png")
    return tmp_path


@pytest.mark.slow
def test_a_sweep_over_the_crop_learns_from_two_variants_and_predicts_as_it_learned(
    faces: Path,
    ray_local: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(faces / "cache"))
    axes = "crop: [none, face]"
    (faces / "얼굴" / "놀람").mkdir()
    plan = plan_of(faces, "얼굴", "split: {train: 0.6, val: 0.3}", axes)
    assert plan.variants == (Format(16, 1, "face"), Format(16, 1))
    found = overview(plan, Question(ResultsDirectory(str(faces / "out"))))
    assert "16 px grey faces, to prepare" in plan_text(found)
    outcomes = run_sweep(plan.sweep, Options(str(faces / "out")))
    assert sorted(r.config["crop"] for r in outcomes.records) == ["face", "none"]
    assert outcomes.exit_code == 0
    told = capsys.readouterr().err
    assert "no face in 1 of 17 images, which are kept whole" in told
    assert told.count("no image in the folders 놀람") == 1
    results = ResultsDirectory(str(faces / "out"))
    found_in = {row["path"]: row["face"] for row in results.images().to_pylist()}
    assert found_in.pop("슬픔/빈 방.png") == "none"
    assert set(found_in.values()) == {"found"}

    trial_id = next(r.trial_id for r in outcomes.records if r.config["crop"] == "face")
    kept = load_model(results.checkpoint(trial_id))
    variant = find_variant(plan.source, Format(16, 1, "face"), Folder(str(faces / "cache")))
    assert variant is not None
    table = variant.table()
    pixels = as_array(table, 16, 1)
    rows = {sha256: row for row, sha256 in enumerate(table["sha256"].to_pylist())}
    for image in plan.source.table.to_pylist():
        seen = decode_file(image["file"], kept)
        assert not isinstance(seen, str)
        assert (seen.pixels == pixels[rows[image["sha256"]]]).all()
    said = predict_files(kept, [str(faces / "얼굴")], torch.device("cpu"))
    assert said.faceless == (str(faces / "얼굴" / "슬픔" / "빈 방.png"),)
    assert "its largest face (MTCNN" in preprocessing(kept)
    monkeypatch.setattr(predict_module, "is_installed", lambda: False)
    with pytest.raises(Refused, match=r"pip install 'raylab\[faces\]'"):
        predict_files(kept, [str(faces / "얼굴")], torch.device("cpu"))


def test_threads_that_look_for_faces_build_one_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def slow(**options: object) -> object:
        built.append(options)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(faces_module, "import_module", lambda name: SimpleNamespace(MTCNN=slow))
    monkeypatch.setattr(faces_module, "_detector", cache(faces_module._detector.__wrapped__))
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: faces_module.detector(), range(4)))
    assert len(built) == len(found) == 1
