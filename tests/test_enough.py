"""Whether each class has images enough: told before any image is decoded, and with the reason."""

from collections import Counter

import pyarrow as pa
import pytest

from raylab.config.trial import SplitConfig
from raylab.errors import Refused
from raylab.images.enough import (
    MAX_TRIED,
    check_classes,
    check_sides,
    count_sides,
    totals,
    try_splits,
    unreadable,
    unvalidated,
)

GIVEN = SplitConfig(strategy="given")


def images_of(counts: list[tuple[str, int, str]]) -> pa.Table:
    """counts: (label, how many different images, their status)."""
    rows = [(label, status) for label, num, status in counts for _ in range(num)]
    return pa.table(
        {
            "path": [f"{i}.png" for i in range(len(rows))],
            "sha256": [f"h{i}" for i in range(len(rows))],
            "label": [label for label, _ in rows],
            "status": [status for _, status in rows],
            "group": pa.nulls(len(rows), pa.string()),
            "given_split": pa.nulls(len(rows), pa.string()),
        }
    )


def with_column(images: pa.Table, name: str, values: list[str]) -> pa.Table:
    return images.set_column(images.column_names.index(name), name, pa.array(values))


def test_all_classes_that_are_left_too_small_are_named() -> None:
    check_classes(images_of([("a", 5, "ok"), ("b", 5, "ok"), ("b", 9, "damaged")]), "faces")
    small = images_of([("a", 50, "ok"), ("b", 4, "ok"), ("b", 9, "damaged"), ("c", 3, "damaged")])
    with pytest.raises(Refused) as refused:
        check_classes(small, "faces")
    told = str(refused.value)
    assert "faces  class 'b': 4 usable of 13 images (9: damaged); at least 5 are needed" in told
    assert "faces  class 'c': 0 usable of 3 images (3: damaged)" in told
    with pytest.raises(Refused, match="1 classes; at least 2 are needed"):
        check_classes(images_of([("a", 50, "ok")]), "faces")


def test_the_commonest_reason_why_a_class_is_too_small_is_told() -> None:
    table = images_of([("a", 9, "ok"), ("b", 2, "damaged"), ("b", 7, "HEIC"), ("b", 1, "ok")])
    with pytest.raises(Refused, match=r"class 'b': 1 usable of 10 images \(7: HEIC\)"):
        check_classes(table, "faces")


def test_copies_of_one_picture_are_one_image_of_the_class() -> None:
    table = images_of([("a", 9, "ok"), ("b", 8, "ok")])
    copies = with_column(table, "sha256", [f"h{min(i, 9)}" for i in range(17)])
    with pytest.raises(Refused, match="class 'b': 1 usable of 8 images, copies counted once"):
        check_classes(copies, "faces")


def test_a_class_that_no_image_validates_is_told() -> None:
    table = images_of([("a", 100, "ok"), ("b", 6, "ok")])
    split = SplitConfig()
    assert count_sides(table, split)["b"] == Counter(train=5, test=1)
    (line,) = unvalidated({split: count_sides(table, split)})
    assert line == "no validation image of b: accuracy and F1 there say nothing of it"
    half = SplitConfig(train=0.5)
    (line,) = unvalidated({each: count_sides(table, each) for each in (split, half)})
    assert "of b (in 1 of 2 splits):" in line
    assert list(unvalidated({half: count_sides(table, half)})) == []


def test_a_class_that_no_image_trains_is_refused() -> None:
    table = images_of([("a", 8, "ok"), ("b", 8, "ok")])
    given = with_column(table, "given_split", ["train", "val"] * 4 + ["val"] * 8)
    with pytest.raises(Refused, match="split given  no training image of b"):
        check_sides(given, {GIVEN: count_sides(given, GIVEN)}, "faces")


def test_a_few_splits_that_differ_in_more_than_seed_and_fold_are_tried() -> None:
    table = images_of([("a", 40, "ok"), ("b", 40, "ok")])
    folds = [SplitConfig(folds=4, fold=fold, seed=seed) for seed in (0, 1) for fold in range(4)]
    assert list(try_splits(table, folds)) == folds[:1]
    ratios = [SplitConfig(train=0.5 + i / 100) for i in range(9)]
    tried = try_splits(table, ratios)
    assert list(tried) == ratios[:MAX_TRIED]
    assert totals(tried[ratios[0]]) == {"train": 40, "val": 32, "test": 8}


def test_files_that_are_left_out_are_counted_with_the_first_one() -> None:
    assert list(unreadable(images_of([("a", 5, "ok")]))) == []
    (line,) = unreadable(images_of([("a", 5, "ok"), ("b", 2, "cannot be read: No such file")]))
    assert line == "2 of 7 files are left out (the first: 5.png cannot be read: No such file)"
