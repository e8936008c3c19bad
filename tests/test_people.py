"""Person groups are offered from the names of known data sets, and not from names without any."""

import hashlib
import re
import uuid

import numpy as np
import pytest

from raylab.images.people import find_people, persons_of

LABELS = ("angry", "happy", "sad", "surprise")


def spread(names: list[str]) -> tuple[list[str], list[str]]:
    """(paths, labels): names dealt round over class folders."""
    labels = [LABELS[i % 4] for i in range(len(names))]
    return [f"{label}/{name}" for label, name in zip(labels, names, strict=True)], labels


def numbered(pattern: str, people: int = 12, each: int = 5) -> list[str]:
    return [pattern.format(p=p, i=i) for p in range(1, people + 1) for i in range(each)]


@pytest.mark.parametrize(
    ("names", "person"),
    [
        (numbered("S{p:03d}_00{i}_00000011.png"), "S001"),  # CK+
        (numbered("AF{p:02d}ANS{i}.JPG"), "F01"),  # KDEF
        (numbered("Rafd090_{p:02d}_Caucasian_female_angry_{i}.jpg"), "01"),
        (numbered("{p:03d}_{i}.png"), "001"),
        (numbered("subject{p}-{i}.bmp"), "subject1"),
        (numbered("P{p:03d}/shot{i}.png"), "P001"),
        ([f"{n}A.HA{i}.{i}.tiff" for n in "ABCDEFGHIJ" for i in range(1, 5)], "AA"),  # JAFFE
        ([f"Ann_{n}son_{i:04d}.jpg" for n in "ABCDEFGHIJ" for i in range(1, 5)], "Ann_Ason"),  # LFW
    ],
)
def test_persons_are_recognised(names: list[str], person: str) -> None:
    people = find_people(*spread(names))
    assert people is not None
    assert people.persons[0] == person
    assert people.num_people == len(set(people.persons)) >= 10


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "names",
    [
        [f"fer{i:07d}.png" for i in range(500)],
        [f"noferplus_Training_{i}.png" for i in RNG.integers(10**6, 10**8, 500)],
        [f"fer{i:07d}.png" for i in range(480)]
        + [f"noferplus_PublicTest_{i}.png" for i in range(20)],
        [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() + ".png" for i in range(500)],
        [f"{uuid.UUID(int=int(i))}.jpg" for i in RNG.integers(1, 2**62, 500)],
        [f"{uuid.uuid5(uuid.NAMESPACE_DNS, str(i))}.jpg" for i in range(500)],
        [f"IMG_{i:04d}.JPG" for i in range(500)],
        [f"IMG_202001{i % 28 + 1:02d}_{i:06d}.jpg" for i in range(500)],  # by day
        [f"{i % 90 + 1}_{i % 2}_{i % 5}_2017{i:013d}.jpg" for i in range(500)],  # UTKFace: by age
        [f"train_{i:05d}_aligned.jpg" for i in range(500)],  # RAF-DB
    ],
)
def test_names_without_persons_offer_nothing(names: list[str]) -> None:
    assert find_people(*spread(names)) is None


def test_a_number_that_stands_for_the_class_is_no_person() -> None:
    names = [f"c{i % 4:02d}_{i}.png" for i in range(200)]
    assert find_people(*spread(names)) is None


def test_the_offer_reads_as_split_group_pattern_does() -> None:
    paths, labels = spread(numbered("S{p:03d}_{i}.png"))
    people = find_people(paths, labels)
    assert people is not None
    assert people.persons == persons_of(paths, people.pattern)
    assert re.search(people.pattern, paths[0])[1] == "S001"


def test_a_pattern_without_a_group_matches_as_a_whole() -> None:
    assert persons_of(["a/S01_1.png", "x"], r"S\d+") == ("S01", None)
