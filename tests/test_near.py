"""Near-copies of drawn faces are found, of every kind that is promised, and little else."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from raylab.images.inspection import inspect
from raylab.images.near import Faces, groups_of, near_pairs
from raylab.images.toy import EMOTIONS, draw_face

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
NUM_FACES = 120


def recompressed(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    sink = io.BytesIO()
    face.save(sink, "JPEG", quality=int(rng.integers(50, 95)))
    return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")


def resized(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.choice([32, 40, 96, 150]))
    return face.resize((side, side), Image.Resampling.BILINEAR)


def cropped(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = rng.uniform(0.95, 1, 2) * face.size
    left, top = rng.uniform(0, face.width - width), rng.uniform(0, face.height - height)
    box = (left, top, left + width, top + height)
    return face.resize(face.size, Image.Resampling.BICUBIC, box=box)


def mirrored(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def brightened(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    shift, gain = rng.uniform(-35, 35), rng.uniform(0.8, 1.2)
    changed = (np.asarray(face, dtype=np.float64) - 128) * gain + 128 + shift
    return Image.fromarray(np.clip(changed, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def faces() -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [Image.fromarray(draw_face(EMOTIONS[i % len(EMOTIONS)], rng)) for i in range(NUM_FACES)]


def as_seen(images: list[Image.Image]) -> Faces:
    """What the audit hands over of image files."""
    seen = []
    for image in images:
        sink = io.BytesIO()
        image.save(sink, "PNG")
        seen.append(inspect(sink.getvalue()).face)
    return np.array(seen)


@pytest.mark.parametrize("change", [recompressed, resized, cropped, mirrored, brightened])
def test_planted_copies_are_found(faces: list[Image.Image], change: Change) -> None:
    rng = np.random.default_rng(2)
    copies = [change(face, rng) for face in faces]
    pairs = near_pairs(as_seen([*faces, *copies]))
    planted = pairs.second - pairs.first == NUM_FACES
    assert planted.sum() >= 0.95 * NUM_FACES
    assert (~planted).sum() <= 0.001 * NUM_FACES * (2 * NUM_FACES - 1)
    if change is mirrored:
        assert pairs.mirrored[planted].mean() > 0.9


def test_different_faces_are_no_copies(faces: list[Image.Image]) -> None:
    pairs = near_pairs(as_seen(faces))
    assert len(pairs.first) == 0
    assert (groups_of(NUM_FACES, pairs) == -1).all()


def test_a_chain_of_copies_is_one_group(faces: list[Image.Image]) -> None:
    rng = np.random.default_rng(3)
    first, other = faces[:2]
    chain = [first, mirrored(first, rng), recompressed(mirrored(first, rng), rng), other]
    groups = groups_of(4, near_pairs(as_seen(chain)))
    assert groups.tolist() == [0, 0, 0, -1]


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_to_compare_is_no_error(faces: list[Image.Image], num: int) -> None:
    few = as_seen(faces[:1])[:num]
    assert groups_of(num, near_pairs(few)).tolist() == [-1] * num


def test_a_crowd_of_copies_is_one_group_from_a_bounded_number_of_pairs(
    faces: list[Image.Image],
) -> None:
    noise = np.random.default_rng(4).integers(-3, 4, (300, 48, 48))
    crowd = np.clip(as_seen(faces[:1]).astype(np.int64) + noise, 0, 255).astype(np.uint8)
    pairs = near_pairs(crowd)
    assert len(pairs.first) <= 2 * 4 * 300
    assert (groups_of(300, pairs) == 0).all()
