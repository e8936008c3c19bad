"""From an image table to each image's side: train, val, test, or '' for images left out.

Pure: values in, values out. A side follows from the content's hash alone, never from file names or
order. With `test` fixed, a larger `train` contains the smaller one.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylab.config.identity import digest
from raylab.config.trial import SplitConfig
from raylab.errors import Problem, Refused
from raylab.images.source import Source

Sides = npt.NDArray[np.str_]
SIDES = ("train", "val", "test")
SUBJECT = "the split"


def resolve_strategy(split: SplitConfig, source: Source) -> SplitConfig:
    """`auto` becomes `given` where the source names splits, else `stratified`.

    Refused: `given` where it names none, `group` where it names no groups.
    """
    problems = []
    if split.strategy == "given" and not source.has_splits:
        problems.append("split.strategy given: the source names no train, val or test")
    if split.strategy == "group" and source.table["group"].null_count == source.num_images:
        problems.append("split.strategy group: the source has no group column")
    if problems:
        raise Refused([Problem(source.location, text) for text in problems], source.location)
    if split.strategy != "auto":
        return split
    strategy = "given" if source.has_splits else "stratified"
    return split.model_copy(update={"strategy": strategy})


def assign(images: pa.Table, split: SplitConfig) -> Sides:
    """(N,) side of each image. `images` has sha256, label, group, given_split and maybe status;
    images whose status is not ok get ''. Refused if train or val would be empty.

    stratified: the fractions hold within each class, to an image. random: over all images.
    group: a group, and groups that share an identical image, stay on one side; an image without a
    group stands for itself. given: as the source says; without a val, it is cut out of train.
    Identical images are on one side even under different labels, unless the source gives sides.
    """
    ok = _are_ok(images)
    rows = np.flatnonzero(ok)
    usable = images.take(pa.array(rows))
    contents: list[str] = usable["sha256"].to_pylist()
    labels: list[str] = usable["label"].to_pylist()
    if split.strategy == "given":
        chosen = _given(contents, labels, usable["given_split"].to_pylist(), split)
    else:
        if split.strategy == "group":
            keys, strata = _group_keys(contents, usable["group"].to_pylist()), [""] * len(contents)
        elif split.strategy == "random":
            keys, strata = contents, [""] * len(contents)
        else:
            keys, strata = contents, _first_labels(contents, labels)
        positions = _positions(keys, strata, split.seed)
        chosen = _sides(positions, test=split.test, val=split.val)
    sides: Sides = np.full(images.num_rows, "", dtype="<U5")
    sides[rows] = chosen
    _check_not_empty(sides, split)
    return sides


def split_fingerprint(sides: Sides, image_ids: Sequence[str]) -> str:
    """12 hex digits over which images train and which validate; order does not matter."""
    ids = np.asarray(image_ids, dtype=np.str_)
    parts: Mapping[str, list[str]] = {
        side: sorted(ids[sides == side].tolist()) for side in ("train", "val")
    }
    return digest(parts)


def _are_ok(images: pa.Table) -> npt.NDArray[np.bool_]:
    if "status" not in images.column_names:
        return np.ones(images.num_rows, dtype=np.bool_)
    return np.array([status == "ok" for status in images["status"].to_pylist()], dtype=np.bool_)


def _positions(keys: Sequence[str], strata: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """(N,) in (0, 1): where each key's images stand in their stratum, ranked by the key's hash.

    Ranks are counted in images, so fractions of the positions are fractions of the images.
    A key has one stratum.
    """
    weights: dict[tuple[str, str], int] = {}
    totals: dict[str, int] = {}
    for pair in zip(strata, keys, strict=True):
        weights[pair] = weights.get(pair, 0) + 1
        totals[pair[0]] = totals.get(pair[0], 0) + 1
    before = dict.fromkeys(totals, 0)
    positions: dict[tuple[str, str], float] = {}
    for pair in sorted(weights, key=lambda pair: (_hash(pair[1], seed), pair)):
        stratum, weight = pair[0], weights[pair]
        positions[pair] = (before[stratum] + weight / 2) / totals[stratum]
        before[stratum] += weight
    return np.array([positions[pair] for pair in zip(strata, keys, strict=True)], dtype=np.float64)


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _sides(positions: npt.NDArray[np.float64], test: float, val: float) -> Sides:
    """test lies below val lies below train: moving the upper border nests the train sets.

    The slack keeps float dust (0.1 + 0.2 > 0.3) from moving an image across a border.
    """
    slack = 1e-9
    sides = np.where(
        positions < test - slack, "test", np.where(positions < test + val - slack, "val", "train")
    )
    return sides.astype("<U5")


def _first_labels(contents: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Per image, the label its content counts under: the first in order, if copies disagree."""
    first: dict[str, str] = {}
    for content, label in zip(contents, labels, strict=True):
        first[content] = min(first.get(content, label), label)
    return [first[content] for content in contents]


def _group_keys(contents: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """Per image, the name of its group, after joining groups that share an identical image."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for content, group in zip(contents, groups, strict=True):
        a, b = root(f"content:{content}"), root(f"group:{group}" if group else f"content:{content}")
        parent[max(a, b)] = min(a, b)  # the smallest name leads, whatever the order of the rows
    return [root(f"content:{content}") for content in contents]


def _given(
    contents: Sequence[str], labels: Sequence[str], given: Sequence[str | None], split: SplitConfig
) -> Sides:
    sides: Sides = np.array([side or "" for side in given], dtype="<U5")
    if (sides == "val").any() or not (sides == "train").any():
        return sides
    rows = np.flatnonzero(sides == "train").tolist()
    train_contents = [contents[i] for i in rows]
    strata = _first_labels(train_contents, [labels[i] for i in rows])
    positions = _positions(train_contents, strata, split.seed)
    sides[rows] = _sides(positions, test=0.0, val=split.val / (split.train + split.val))
    return sides


def _check_not_empty(sides: Sides, split: SplitConfig) -> None:
    problems = [
        Problem(
            SUBJECT,
            f"{split.strategy}: no image left for {side} (of {sides.size}; "
            f"split.{side} {getattr(split, side):g})",
        )
        for side in ("train", "val")
        if not (sides == side).any()
    ]
    if problems:
        raise Refused(problems, SUBJECT)
