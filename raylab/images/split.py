"""From an image table to each image's side: train, val, test, or '' for images left out.

Pure: values in, values out. A side follows from content hashes and the names of groups alone,
never from file names or order. With `test` fixed, a larger `train` contains the smaller one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylab.config.identity import digest
from raylab.config.trial import SplitConfig
from raylab.errors import Problem, Refused
from raylab.images.balance import positions, spread
from raylab.images.conflicts import conflicting, find, one_line
from raylab.images.groups import Units, describe_groups, group_names, units_of
from raylab.images.source import Source

Sides = npt.NDArray[np.str_]
SIDES = ("train", "val", "test")
SUBJECT = "the split"


def resolve_strategy(split: SplitConfig, source: Source) -> SplitConfig:
    """`auto` becomes `given` where the source names splits, else `stratified`.

    Refused: `given` where it names none, `group` where it has no groups, a group_pattern that
    matches no path.
    """
    problems = []
    if split.strategy == "given" and not source.has_splits:
        problems.append("split.strategy given: the source names no train, val or test")
    if split.group_pattern and not any(group_names(source.table, split.group_pattern)):
        example = source.table["path"][0].as_py()
        text = f"matches none of {source.num_images:,} paths, which look like {example!r}"
        problems.append(f"split.group_pattern {split.group_pattern}: {text}")
    elif split.strategy == "group" and not any(group_names(source.table, split.group_pattern)):
        text = "the source has no group column; give one, or split.group_pattern"
        problems.append(f"split.strategy group: {text}")
    if problems:
        raise Refused([Problem(source.location, text) for text in problems], source.location)
    if split.strategy != "auto":
        return split
    strategy = "given" if source.has_splits else "stratified"
    return split.model_copy(update={"strategy": strategy})


def assign(images: pa.Table, split: SplitConfig) -> Sides:
    """(N,) side of each image. `images` has sha256, label, group, given_split, maybe status, and
    path if the split has a group_pattern. Refused if train or val would be empty.

    stratified: the fractions hold within each class, to an image, or as well as whole groups
    allow. random, group: over all images. given: as the source says; without a val, it is cut out
    of train. Identical images, and images of one group, are on one side, whatever their labels,
    unless the source gives sides. With folds, val is the fold-th part of what is not test.
    Images whose status is not ok get '', and so do, unless conflicts is keep, identical images
    under different labels.
    """
    rows = np.flatnonzero(_are_usable(images, split))
    usable = images.take(pa.array(rows))
    units = units_of(
        usable["sha256"].to_pylist(),
        [""] * len(rows) if split.strategy in ("random", "group") else usable["label"].to_pylist(),
        group_names(usable, split.group_pattern),
        split.seed,
    )
    if split.strategy == "given":
        chosen = _given(units, usable["given_split"].to_pylist(), split)
    else:
        chosen = _cut(units, np.ones(len(rows), dtype=np.bool_), test=split.test, val=split.val)
    if split.folds:
        rest = chosen != "test"
        folds = spread(units.counts(rest), units.are_groups, split.folds)[units.of_image]
        chosen = np.where(rest, np.where(folds == split.fold, "val", "train"), chosen)
    sides: Sides = np.full(images.num_rows, "", dtype="<U5")
    sides[rows] = chosen
    _check_not_empty(sides, split, np.bincount(units.of_image, minlength=1).max())
    return sides


def split_fingerprint(sides: Sides, image_ids: Sequence[str]) -> str:
    """12 hex digits over which images train and which validate; order does not matter."""
    ids = np.asarray(image_ids, dtype=np.str_)
    parts: Mapping[str, list[str]] = {
        side: sorted(ids[sides == side].tolist()) for side in ("train", "val")
    }
    return digest(parts)


def remarks(images: pa.Table, splits: Iterable[SplitConfig]) -> list[str]:
    """What the splits of a sweep make of copies and groups, a line each; nothing to say, no line.

    `images` is an image table with path.
    """
    wanted = list(splits)
    findings = find(images)
    lines = []
    if findings.num_duplicate_groups:
        left_out = any(split.conflicts == "drop" for split in wanted)
        as_given = any(split.strategy == "given" for split in wanted)
        lines.append(one_line(findings, left_out, as_given))
    patterns = dict.fromkeys(split.group_pattern for split in wanted)
    lines += [describe_groups(images, pattern) for pattern in patterns]
    lines += _overruled(images, [split for split in wanted if split.strategy == "given"])
    return [line for line in lines if line]


def idle_keys(split: SplitConfig, images: pa.Table) -> set[str]:
    """Fields that change nothing in the resolved split: the source says it already."""
    if split.strategy != "given":
        return set()
    if split.folds:
        return {"split.train", "split.val", "split.test"}
    if "val" in _sides_named(images):
        return {f"split.{name}" for name in ("train", "val", "test", "seed", "group_pattern")}
    return set()


def describe(split: SplitConfig, images: pa.Table) -> str:
    """`stratified, train 0.7, val 0.2`: the strategy, and what was chosen and has an effect."""
    idle = idle_keys(split, images)
    chosen = (f"{name} {value}" for name, value in _chosen(split) if f"split.{name}" not in idle)
    return ", ".join([split.strategy, *chosen])


def _overruled(images: pa.Table, splits: Sequence[SplitConfig]) -> Iterator[str]:
    """What is asked of splits whose sides the source names, and not done."""
    said = dict.fromkeys(
        f"split.{name} {value}"
        for split in splits
        for name, value in _chosen(split)
        if f"split.{name}" in idle_keys(split, images)
    )
    if said:
        text = f"the source names its sides, whatever {', '.join(said)} say"
        yield f"{text}; split.strategy: stratified cuts anew"
    if splits and "test" not in _sides_named(images):
        yield (
            "the source names no test images and none are cut out: `final` will have nothing to "
            "score; name some, or set split.strategy: stratified"
        )


def _chosen(split: SplitConfig) -> list[tuple[str, Any]]:
    """Fields beside the strategy that are not as they are by themselves."""
    usual = SplitConfig(strategy=split.strategy, folds=split.folds)
    chosen = [(name, value) for name, value in split if value != getattr(usual, name)]
    return [("folds", split.folds), *chosen] if split.folds else chosen


def _sides_named(images: pa.Table) -> list[str | None]:
    """The sides to which the source itself gives images."""
    named: list[str | None] = pc.unique(images["given_split"]).to_pylist()
    return named


def _are_usable(images: pa.Table, split: SplitConfig) -> npt.NDArray[np.bool_]:
    usable = np.ones(images.num_rows, dtype=np.bool_)
    if "status" in images.column_names:
        usable &= np.array([status == "ok" for status in images["status"].to_pylist()], np.bool_)
    if split.conflicts == "keep":
        return usable
    if split.strategy != "given":
        return usable & ~conflicting(images)
    # Only `final` reads a given test split's labels: they make no conflict in train or val.
    open_rows = np.array([side != "test" for side in images["given_split"].to_pylist()], np.bool_)
    seen = images.filter(pa.array(open_rows))
    usable[np.flatnonzero(open_rows)[conflicting(seen)]] = False
    return usable


def _cut(units: Units, rows: npt.NDArray[np.bool_], test: float, val: float) -> Sides:
    """(N,) side of each image, the fractions taken of the given rows.

    test lies below val lies below train: moving the upper border nests the train sets. The slack
    keeps float dust (0.1 + 0.2 > 0.3) from moving an image across a border.
    """
    slack = 1e-9
    found = positions(units.counts(rows), units.are_groups)[units.of_image]
    sides = np.where(found < test + val - slack, "val", "train").astype("<U5")
    sides[found < test - slack] = "test"
    return sides


def _given(units: Units, given: Sequence[str | None], split: SplitConfig) -> Sides:
    sides: Sides = np.array([side or "" for side in given], dtype="<U5")
    train = sides == "train"
    if split.folds or (sides == "val").any() or not train.any():
        return sides
    cut = _cut(units, train, test=0.0, val=split.val / (split.train + split.val))
    return np.where(train, cut, sides)


def _check_not_empty(sides: Sides, split: SplitConfig, largest_unit: int) -> None:
    """Refused if nothing trains or nothing validates; `largest_unit` in images."""
    hint = ""
    if largest_unit > sides.size / 2:
        hint = f"; {largest_unit} are one group, which groups that share an identical image become"
    problems = [
        Problem(
            SUBJECT,
            f"{split.strategy}: no image left for {side} (of {sides.size}; "
            f"split.{side} {getattr(split, side):g}{hint})",
        )
        for side in ("train", "val")
        if not (sides == side).any()
    ]
    if problems:
        raise Refused(problems, SUBJECT)
