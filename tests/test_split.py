from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.config.trial import SplitConfig
from raylab.errors import Refused
from raylab.images.source import scan
from raylab.images.split import assign, resolve_strategy, split_fingerprint

STRATEGIES = ("stratified", "random", "group")


def images_of(rows):
    """rows: (sha256, label, group, given_split)."""
    names = ("sha256", "label", "group", "given_split")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def distinct(num, classes=("a", "b")):
    return images_of([(f"h{i}", classes[i % len(classes)], None, None) for i in range(num)])


# Few contents and groups, so that copies under several labels and shared groups do occur.
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda i: f"h{i}"),
        st.sampled_from("abc"),
        st.one_of(st.none(), st.integers(0, 8).map(lambda i: f"g{i}")),
        st.none(),
    ),
    min_size=1,
    max_size=80,
)


def sides_or_none(images, split):
    try:
        return assign(images, split)
    except Refused:  # too few images to fill both sides
        return None


@given(ROWS, st.sampled_from(STRATEGIES), st.integers(0, 3))
def test_every_image_is_on_one_side_and_copies_never_straddle(rows, strategy, seed):
    sides = sides_or_none(images_of(rows), SplitConfig(strategy=strategy, seed=seed))
    if sides is None:
        return
    assert set(sides.tolist()) <= {"train", "val", "test"}
    of_content, of_group = defaultdict(set), defaultdict(set)
    for (sha256, _, group, _), side in zip(rows, sides, strict=True):
        of_content[sha256].add(side)
        of_group[group].add(side)
    assert all(len(found) == 1 for found in of_content.values())
    if strategy == "group":
        assert all(len(found) == 1 for group, found in of_group.items() if group)


@given(ROWS, st.sampled_from(STRATEGIES), st.randoms())
def test_the_order_of_the_images_does_not_matter(rows, strategy, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    split = SplitConfig(strategy=strategy)
    sides = sides_or_none(images_of(rows), split)
    shuffled = sides_or_none(images_of([rows[i] for i in order]), split)
    if sides is None:
        assert shuffled is None
        return
    assert sides[order].tolist() == shuffled.tolist()


@given(
    ROWS,
    st.sampled_from(STRATEGIES),
    st.sampled_from([(0.5, 0.6), (0.7, 0.75), (0.75, 0.8)]),
)
def test_a_larger_train_contains_the_smaller_and_test_stays(rows, strategy, fractions):
    small, large = (
        sides_or_none(images_of(rows), SplitConfig(train=train, test=0.1, strategy=strategy))
        for train in fractions
    )
    if small is None or large is None:
        return
    assert (large[small == "train"] == "train").all()
    assert ((small == "test") == (large == "test")).all()


@pytest.mark.parametrize("train", [0.7, 0.75, 0.8])
def test_stratified_holds_the_fractions_in_every_class_to_an_image(train):
    labels = ["common"] * 803 + ["rare"] * 41
    images = images_of([(f"h{i}", label, None, None) for i, label in enumerate(labels)])
    sides = assign(images, SplitConfig(train=train, test=0.1, strategy="stratified"))
    counts = Counter(zip(labels, sides.tolist(), strict=True))
    for label, num in Counter(labels).items():
        for side, fraction in (("train", train), ("val", 0.9 - train), ("test", 0.1)):
            assert abs(counts[label, side] - fraction * num) <= 1


def test_random_holds_the_fractions_over_all_images():
    sides = assign(distinct(1000), SplitConfig(strategy="random"))
    assert Counter(sides.tolist()) == {"train": 800, "val": 100, "test": 100}


def test_no_test_fraction_means_no_test_image():
    sides = assign(distinct(100), SplitConfig(train=0.9, test=0.0, strategy="stratified"))
    assert Counter(sides.tolist()) == {"train": 90, "val": 10}


def test_another_seed_gives_another_split_of_the_same_sizes():
    splits = [assign(distinct(200), SplitConfig(seed=s, strategy="stratified")) for s in (0, 1)]
    assert Counter(splits[0].tolist()) == Counter(splits[1].tolist())
    assert (splits[0] != splits[1]).any()


def test_this_split_never_changes():
    sides = assign(distinct(20), SplitConfig(strategy="stratified"))
    assert split_fingerprint(sides, [f"h{i}" for i in range(20)]) == "c119d7e3712f"


def test_groups_that_share_an_identical_image_stay_together():
    rows = [(f"h{i}", "a", f"g{i // 4}", None) for i in range(80)]
    rows += [("h0", "a", "g7", None), ("h30", "b", "g12", None)]  # joins g0, g7 and g12
    sides = assign(images_of(rows), SplitConfig(strategy="group"))
    joined = {side for row, side in zip(rows, sides, strict=True) if row[2] in ("g0", "g7", "g12")}
    assert len(joined) == 1


def test_one_group_for_all_is_refused():
    images = images_of([(f"h{i}", "a", "same", None) for i in range(50)])
    with pytest.raises(Refused, match=r"group: no image left for (train|val)"):
        assign(images, SplitConfig(strategy="group"))


def test_given_sides_are_kept():
    given_sides = ["train", "val", "test", "train"]
    images = images_of([(f"h{i}", "a", None, side) for i, side in enumerate(given_sides)])
    assert assign(images, SplitConfig(strategy="given")).tolist() == given_sides


def test_given_without_val_cuts_it_out_of_train():
    rows = [(f"h{i}", "ab"[i % 2], None, "test" if i < 20 else "train") for i in range(120)]
    sides = assign(images_of(rows), SplitConfig(train=0.72, val=0.18, strategy="given"))
    assert set(sides[:20]) == {"test"}
    assert Counter(sides[20:].tolist()) == {"train": 80, "val": 20}


def test_images_that_are_not_ok_are_on_no_side():
    images = distinct(20).append_column("status", pa.array(["ok"] * 19 + ["damaged"]))
    sides = assign(images, SplitConfig(train=0.8, test=0.0, strategy="random"))
    assert sides[19] == ""
    assert (sides[:19] != "").all()


def test_auto_is_given_where_the_source_names_splits(tmp_path):
    plain = scan("toy:num=100")
    assert resolve_strategy(SplitConfig(), plain).strategy == "stratified"
    for side in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / side / label).mkdir(parents=True)
            (tmp_path / side / label / "x.png").write_bytes(f"{side}{label}".encode())
    assert resolve_strategy(SplitConfig(), scan(str(tmp_path))).strategy == "given"


@pytest.mark.parametrize("strategy", ["given", "group"])
def test_a_strategy_that_the_source_cannot_serve_is_refused(strategy):
    with pytest.raises(Refused, match=f"split.strategy {strategy}: the source"):
        resolve_strategy(SplitConfig(strategy=strategy), scan("toy:num=100"))


def test_the_fingerprint_is_of_train_and_val_and_not_of_order():
    ids = [f"i{i}" for i in range(6)]
    sides = np.array(["train", "val", "test", "train", "", "val"])
    fingerprint = split_fingerprint(sides, ids)
    assert fingerprint == split_fingerprint(sides[::-1], ids[::-1])
    assert fingerprint == split_fingerprint(np.where(sides == "test", "", sides), ids)
    assert fingerprint != split_fingerprint(np.where(sides == "val", "train", sides), ids)
