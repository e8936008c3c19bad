import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from raylab.config.trial import SplitConfig
from raylab.errors import Refused
from raylab.images.groups import group_names
from raylab.images.source import scan
from raylab.images.split import (
    assign,
    describe,
    idle_keys,
    remarks,
    resolve_strategy,
    split_fingerprint,
)

STRATEGIES = ("stratified", "random", "group")
CONFLICTS = ("drop", "keep")


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
        st.sampled_from("aaaabc"),
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


SPLITS = st.builds(
    SplitConfig.model_validate,
    st.fixed_dictionaries(
        {
            "strategy": st.sampled_from(STRATEGIES),
            "seed": st.integers(0, 3),
            "conflicts": st.sampled_from(CONFLICTS),
            "folds": st.sampled_from([0, 3]),
        }
    ),
)


@given(ROWS, SPLITS)
def test_every_image_is_on_one_side_and_neither_copies_nor_groups_straddle(rows, split):
    sides = sides_or_none(images_of(rows), split)
    if sides is None:
        return
    labels, of_content, of_group = defaultdict(set), defaultdict(set), defaultdict(set)
    for sha256, label, _, _ in rows:
        labels[sha256].add(label)
    for (sha256, _, group, _), side in zip(rows, sides, strict=True):
        is_left_out = split.conflicts == "drop" and len(labels[sha256]) > 1
        assert (side == "") == is_left_out
        of_content[sha256].add(side)
        if side:
            of_group[group].add(side)
    assert all(len(found) == 1 for found in of_content.values())
    assert all(len(found) == 1 for group, found in of_group.items() if group)


@given(ROWS, SPLITS, st.randoms())
def test_the_order_of_the_images_does_not_matter(rows, split, random):
    order = list(range(len(rows)))
    random.shuffle(order)
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


@given(ROWS, SPLITS)
def test_folds_leave_test_alone_and_validate_every_other_image_once(rows, split):
    folds = [split.model_copy(update={"folds": 3, "fold": fold}) for fold in range(3)]
    found = [sides_or_none(images_of(rows), fold) for fold in folds]
    if any(sides is None for sides in found):
        return
    whole = sides_or_none(images_of(rows), SplitConfig(**split.model_dump(include=KEPT)))
    sides = np.stack(found)
    if whole is not None:
        assert ((sides == "test") == (whole == "test")).all()
    assert ((sides == "test").all(axis=0) == (sides == "test").any(axis=0)).all()
    num_vals = (sides == "val").sum(axis=0)
    assert (num_vals == ((sides[0] != "test") & (sides[0] != ""))).all()


KEPT = {"strategy", "seed", "conflicts"}


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
    rows += [("h0", "a", "g7", None), ("h30", "a", "g12", None)]  # joins g0, g7 and g12
    sides = assign(images_of(rows), SplitConfig(strategy="group"))
    for joined in (("g0", "g7"), ("g7", "g12")):
        assert len({s for row, s in zip(rows, sides, strict=True) if row[2] in joined}) == 1


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


@pytest.mark.parametrize(
    ("given_split", "folds", "idle"),
    [
        ("val", 0, {"train", "val", "test", "seed", "group_pattern"}),
        ("test", 0, set()),  # val is cut out of train
        ("test", 5, {"train", "val", "test"}),
    ],
)
def test_fields_that_a_source_with_splits_overrules_are_named(tmp_path, given_split, folds, idle):
    for side in ("train", given_split):
        for label in ("a", "b"):
            (tmp_path / side / label).mkdir(parents=True)
            (tmp_path / side / label / "x.png").write_bytes(f"{side}{label}".encode())
    source = scan(str(tmp_path))
    split = resolve_strategy(SplitConfig(folds=folds), source)
    assert idle_keys(split, source.table) == {f"split.{name}" for name in idle}
    other = split.model_copy(update={"strategy": "stratified"})
    assert idle_keys(other, source.table) == set()


def with_sides(**nums):
    """Images of two classes, so many of them on each side that the source names."""
    sides = [side for side, num in nums.items() for _ in range(num)]
    return images_of([(f"h{i}", "ab"[i % 2], None, side) for i, side in enumerate(sides)])


def test_remarks_tell_what_is_asked_of_sides_that_the_source_names():
    images = with_sides(train=20, val=20, test=20)
    asked = SplitConfig(strategy="given", train=0.5, val=0.3, seed=3)
    assert remarks(images, [asked]) == [
        "the source names its sides, whatever split.train 0.5, split.val 0.3, split.test 0.2, "
        "split.seed 3 say; split.strategy: stratified cuts anew"
    ]
    for split in (
        SplitConfig(strategy="given"),
        SplitConfig(strategy="given", folds=5),
        SplitConfig(train=0.5),
    ):
        assert remarks(images, [split]) == []


def test_remarks_tell_where_nothing_is_locked_though_the_source_names_sides():
    split = SplitConfig(strategy="given", train=0.5, test=0.3)
    (line,) = remarks(with_sides(train=40), [split])
    assert line.startswith("the source names no test images and none are cut out: `final`")
    assert remarks(with_sides(train=40, test=5), [split]) == []


def test_a_split_is_described_by_what_was_chosen_and_has_an_effect():
    images = with_sides(train=20, val=20)
    assert describe(SplitConfig(strategy="stratified"), images) == "stratified"
    assert (
        describe(SplitConfig(strategy="random", train=0.7), images) == "random, train 0.7, val 0.2"
    )
    assert describe(SplitConfig(folds=5, fold=2), images) == "auto, folds 5, fold 2"
    chosen = {"train": 0.7, "conflicts": "keep"}
    assert describe(SplitConfig(strategy="given", **chosen), images) == "given, conflicts keep"


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


def with_paths(images, paths):
    return images.append_column("path", pa.array(paths, pa.string()))


def people(num_people, num_images, seed=0):
    """Images of people who show each emotion more or less often, as (sha256, label, group)."""
    rng = np.random.default_rng(seed)
    habits = rng.dirichlet([0.5] * 5, num_people)
    persons = rng.integers(0, num_people, num_images)
    labels = [str(rng.choice(5, p=habits[person])) for person in persons]
    return [(f"h{i}", labels[i], f"p{person}", None) for i, person in enumerate(persons)]


def test_stratified_keeps_the_class_shares_where_groups_may_not_be_parted():
    rows = people(200, 4000)
    labels = np.array([row[1] for row in rows])
    for seed in range(3):
        sides = assign(images_of(rows), SplitConfig(strategy="stratified", seed=seed))
        for label in "01234":
            of_class = sides[labels == label]
            shares = {side: (of_class == side).mean() for side in ("train", "val", "test")}
            assert shares == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.02)


def test_small_groups_are_not_gathered_in_test():
    """A side of 10 % of the images has about 10 % of the people too."""
    rng = np.random.default_rng(0)
    sizes = rng.permutation([2] * 100 + [30] * 100)
    rows = [
        (f"h{p}-{i}", str(rng.integers(3)), f"p{p}", None)
        for p in range(200)
        for i in range(sizes[p])
    ]
    sides = assign(images_of(rows), SplitConfig(strategy="stratified"))
    tested = {row[2] for row, side in zip(rows, sides, strict=True) if side == "test"}
    assert 15 <= len(tested) <= 25


def test_folds_without_groups_are_even_within_an_image_of_each_class():
    labels = ["common"] * 803 + ["rare"] * 44
    contents = [f"h{i}" for i in range(790)] * 2  # pairs of copies, which stay together
    rows = [(contents[i], label, None, None) for i, label in enumerate(labels)]
    images = images_of([(s, "common" if s in contents[:57] else n, g, v) for s, n, g, v in rows])
    for fold_of in ("common", "rare"):
        counts = [
            int(
                (
                    (assign(images, SplitConfig(strategy="stratified", folds=5, fold=k)) == "val")
                    & (np.array(images["label"].to_pylist()) == fold_of)
                ).sum()
            )
            for k in range(5)
        ]
        assert max(counts) - min(counts) <= 1


def test_folds_of_groups_are_as_even_as_those_of_scikit_learn():
    def unevenness(labels, folds):
        """Mean over classes of the spread of a class's shares over the folds."""
        shares = [[(folds[labels == c] == k).mean() for k in range(5)] for c in set(labels)]
        return np.std(shares, axis=1).mean()

    ours, theirs = [], []
    for seed in range(10):
        rows = people(60, 900, seed)
        labels, groups = np.array([row[1] for row in rows]), [row[2] for row in rows]
        folds = np.full((2, len(rows)), -1)
        for k in range(5):
            split = SplitConfig(strategy="stratified", folds=5, fold=k, test=0.0, seed=seed)
            folds[0, assign(images_of(rows), split) == "val"] = k
        cut = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(rows, labels, groups)
        for k, (_, val) in enumerate(cut):
            folds[1, val] = k
        ours.append(unevenness(labels, folds[0]))
        theirs.append(unevenness(labels, folds[1]))
    assert np.mean(ours) <= 0.7 * np.mean(theirs)


def test_another_seed_gives_other_folds_of_groups():
    images = images_of(people(60, 900))
    splits = [SplitConfig(strategy="stratified", folds=5, test=0.0, seed=s) for s in (0, 1)]
    assert (assign(images, splits[0]) != assign(images, splits[1])).any()


def test_the_pattern_names_the_group_and_overrules_the_column():
    rows = [(f"h{i}", "ab"[i % 2], f"c{i % 7}", None) for i in range(200)]
    paths = [f"{'ab'[i % 2]}/S{i // 10:03d}_{i % 10}.png" for i in range(200)]
    images = with_paths(images_of(rows), paths)
    expected = images_of(
        [(row[0], row[1], path[2:6], None) for row, path in zip(rows, paths, strict=True)]
    )
    for pattern in (r"S\d+", r"/(S\d+)_", r"(?<=/)(S...)"):
        split = SplitConfig(strategy="stratified", group_pattern=pattern)
        assert (
            assign(images, split).tolist()
            == assign(expected, SplitConfig(strategy="stratified")).tolist()
        )


def test_a_pattern_finds_names_in_either_unicode_form():
    rows = [(f"h{i}", "ab"[i % 2], None, None) for i in range(40)]
    stored = [unicodedata.normalize("NFD", f"a/홍길동{i // 4}_{i % 4}.png") for i in range(40)]
    written = unicodedata.normalize("NFC", "홍길동")
    names = group_names(with_paths(images_of(rows), stored), f"({written}\\d)_")
    assert set(names) == {f"{written}{i}" for i in range(10)}


def test_images_without_a_match_stand_for_themselves():
    paths = [f"a/S1_{i}.png" for i in range(50)] + [f"b/{i}.png" for i in range(500)]
    rows = [(f"h{i}", "a" if i < 50 else "b", None, None) for i in range(550)]
    split = SplitConfig(strategy="stratified", group_pattern=r"S\d+")
    sides = assign(with_paths(images_of(rows), paths), split)
    assert len(set(sides[:50])) == 1
    assert Counter(sides[50:].tolist()) == {"train": 400, "val": 50, "test": 50}


def test_a_pattern_that_matches_no_path_is_refused():
    with pytest.raises(Refused, match=r"group_pattern S.+: matches none of 100 paths, which look"):
        resolve_strategy(SplitConfig(group_pattern=r"S\d+"), scan("toy:num=100"))


def test_a_pattern_serves_the_group_strategy():
    split = SplitConfig(strategy="group", group_pattern=r"\d+")
    assert resolve_strategy(split, scan("toy:num=100")) == split


def test_conflicting_copies_are_left_out_of_given_sides_but_test_labels_are_not_asked():
    rows = [
        ("h0", "a", None, "train"),
        ("h0", "b", None, "val"),
        ("h1", "a", None, "train"),
        ("h2", "a", None, "val"),
        ("h3", "a", None, "train"),
        ("h3", "b", None, "test"),
    ]
    sides = assign(images_of(rows), SplitConfig(strategy="given"))
    assert sides.tolist() == ["", "", "train", "val", "train", "test"]


def test_folds_of_given_sides_cut_train_and_val_and_leave_test():
    given_sides = ["test"] * 20 + ["train"] * 70 + ["val"] * 30
    images = images_of([(f"h{i}", "ab"[i % 2], None, s) for i, s in enumerate(given_sides)])
    folds = [assign(images, SplitConfig(strategy="given", folds=5, fold=k)) for k in range(5)]
    assert all(set(sides[:20]) == {"test"} for sides in folds)
    assert [(sides[20:] == "val").sum() for sides in folds] == [20] * 5
    assert (sum((sides == "val").astype(int) for sides in folds)[20:] == 1).all()


def test_remarks_tell_of_copies_and_groups_and_else_nothing():
    assert remarks(distinct(20), [SplitConfig()]) == []
    rows = [("h0", "a", "p0", "train"), ("h0", "b", "p1", "train"), ("h1", "a", None, "train")]
    images = images_of([*rows, ("h2", "a", "p0", "test")])
    copies, groups = remarks(images, [SplitConfig()])
    assert copies == (
        "3 distinct of 4 images; 1 duplicate groups kept on one side; "
        "2 images in 1 groups with conflicting labels left out"
    )
    assert groups == (
        "2 groups over 3 of 4 images (group column); 1 groups stand in more than one given split"
    )
    assert remarks(images, [SplitConfig(conflicts="keep")])[0].endswith("labels kept")
    assert "kept on one side" not in remarks(images, [SplitConfig(strategy="given")])[0]
    by_path = with_paths(images, ["S1/0", "S1/1", "S2/0", "x"])
    line = remarks(by_path, [SplitConfig(group_pattern=r"^S\d")])[1]
    assert line == r"2 groups over 3 of 4 images (split.group_pattern ^S\d)"
