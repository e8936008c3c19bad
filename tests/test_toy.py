from collections import Counter

import numpy as np
import pytest

from raylab.errors import Refused
from raylab.images.source import scan
from raylab.images.toy import EMOTIONS, draw_face, find_toy, read_options, toy_images, write_folder


def test_a_face_is_uint8_rgb_of_the_size_asked_for():
    face = draw_face("happy", np.random.default_rng(0), size=48)
    assert (face.shape, face.dtype) == ((48, 48, 3), np.uint8)


def test_same_name_is_the_same_set_and_another_seed_another():
    first = toy_images(100, 0.1, 3)
    toy_images.cache_clear()
    again, other = toy_images(100, 0.1, 3), toy_images(100, 0.1, 4)
    assert (first.images == again.images).all()
    assert first.labels == again.labels
    assert (first.images != other.images).any()


def test_no_two_faces_are_alike():
    assert len({face.tobytes() for face in toy_images(200).images}) == 200


def test_a_larger_set_contains_the_smaller_ones_faces():
    small = {face.tobytes() for face in toy_images(100).images}
    assert small <= {face.tobytes() for face in toy_images(200).images}


def test_exactly_the_wrong_share_carries_another_label():
    toy = toy_images(400, 0.05)
    differ = [a != b for a, b in zip(toy.labels, toy.true_labels, strict=True)]
    assert sum(differ) == 20
    assert set(toy.labels) == set(EMOTIONS)


def test_classes_are_imbalanced_and_all_there():
    counts = Counter(toy_images(100).labels)
    assert min(counts.values()) >= 5
    assert counts["happy"] == 4 * counts["disgust"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("toy:nun=3", "'nun' is no option; allowed: num, wrong, seed"),
        ("toy:num=three", "num: 'three' is not a number"),
        ("toy:num=3", "num: 3 is not in 100..100000"),
        ("toy:wrong=2", "wrong: 2 is not in 0..1"),
        ("toy:wrong=nan", "wrong: nan is not in 0..1"),
        ("toy:seed=-1", "seed: -1 is not >= 0"),
    ],
)
def test_wrong_options_are_refused(data, message):
    with pytest.raises(Refused, match="no trial was started") as refused:
        read_options(data)
    assert message in str(refused.value)


def test_written_folder_scans_to_the_same_labels(tmp_path):
    assert write_folder(tmp_path, 100, 0.1, 0) == 100
    assert scan(str(tmp_path)).table["label"].to_pylist() == sorted(toy_images(100, 0.1, 0).labels)


def test_found_toy_images_carry_their_bytes():
    found = find_toy("toy:num=100")
    assert len(found) == 100
    assert all(image.content and image.content.startswith(b"P6 64 64 255\n") for image in found)
