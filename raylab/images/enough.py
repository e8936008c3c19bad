"""From an image table to whether every class has images enough, as a whole and on each side.

Pure: values in, values out. Asked twice: of what a scan found, before hours of decoding, and of
what could be decoded.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from raylab.config.trial import SplitConfig
from raylab.errors import Problem, Refused
from raylab.images.source import Source
from raylab.images.split import assign, describe

MIN_CLASS_IMAGES = 5
MAX_TRIED = 4
"""Splits that are tried before any image is decoded: each takes 0.2 s for 36,000 images."""

Sides = dict[str, Counter[str]]
"""By class, how many of its images are on each side; `` for those that are left out."""


def undecoded(source: Source) -> pa.Table:
    """The image table as far as it is known before any image is decoded: `status` is `ok`, or why
    the bytes cannot be read.
    """
    status = pc.coalesce(source.table["trouble"], pa.scalar("ok"))
    return source.table.append_column("status", status)


def unreadable(images: pa.Table) -> Iterator[str]:
    """A line on the images whose status is not ok, if there are some; `images` has path."""
    left_out = images.filter(pc.not_equal(images["status"], "ok"))
    if left_out.num_rows:
        path, status = left_out["path"][0], left_out["status"][0]
        yield (
            f"{left_out.num_rows:,} of {images.num_rows:,} files are left out "
            f"(the first: {path} {status})"
        )


def check_classes(images: pa.Table, location: str) -> None:
    """Refused if a class has fewer than MIN_CLASS_IMAGES different images that are ok, or only one
    class is.

    `images` is an image table; all classes that are too small are named.
    """
    columns = (images[name].to_pylist() for name in ("label", "sha256", "status"))
    statuses: dict[str, Counter[str]] = {}
    contents: dict[str, set[str]] = {}
    for label, sha256, status in zip(*columns, strict=True):
        statuses.setdefault(label, Counter())[status] += 1
        contents.setdefault(label, set()).update([sha256] if status == "ok" else [])
    problems = [
        Problem(location, f"class {label!r}: {_shortage(statuses[label], len(contents[label]))}")
        for label in sorted(statuses)
        if len(contents[label]) < MIN_CLASS_IMAGES
    ]
    if len(statuses) < 2:
        problems.append(Problem(location, f"{len(statuses)} classes; at least 2 are needed"))
    if problems:
        raise Refused(problems, location)


def count_sides(images: pa.Table, split: SplitConfig) -> Sides:
    """How the split divides each class; Refused if nothing trains or nothing validates."""
    labels = images["label"].to_pylist()
    found: Sides = {label: Counter() for label in labels}
    for label, side in zip(labels, assign(images, split).tolist(), strict=True):
        found[label][side] += 1
    return found


def try_splits(images: pa.Table, splits: Iterable[SplitConfig]) -> dict[SplitConfig, Sides]:
    """`count_sides` of the first few that differ in more than their seed and fold."""
    kinds: dict[SplitConfig, SplitConfig] = {}
    for split in splits:
        kinds.setdefault(split.model_copy(update={"seed": 0, "fold": 0}), split)
    return {split: count_sides(images, split) for split in islice(kinds.values(), MAX_TRIED)}


def check_sides(images: pa.Table, splits: Mapping[SplitConfig, Sides], location: str) -> None:
    """Refused where a split of the images leaves a class without one to train on."""
    problems = []
    for split, sides in splits.items():
        missing = [label for label in sides if not sides[label]["train"]]
        if missing:
            text = f"no training image of {', '.join(missing)}; give it more images"
            problems.append(Problem(f"split {describe(split, images)}", text))
    if problems:
        raise Refused(problems, location)


def unvalidated(splits: Mapping[SplitConfig, Sides]) -> Iterator[str]:
    """A line on the classes that some split does not validate, if there are some."""
    missing = Counter(
        label for sides in splits.values() for label in sides if not sides[label]["val"]
    )
    if missing:
        named = ", ".join(
            label if num == len(splits) else f"{label} (in {num} of {len(splits)} splits)"
            for label, num in missing.items()
        )
        yield f"no validation image of {named}: accuracy and F1 there say nothing of it"


def totals(sides: Sides) -> dict[str, int]:
    """Images that train, validate and stay locked."""
    whole: Counter[str] = sum(sides.values(), Counter())
    return {side: whole[side] for side in ("train", "val", "test")}


def _shortage(statuses: Counter[str], num_different: int) -> str:
    """`1 usable of 9 images, copies counted once (3: damaged); at least 5 are needed`."""
    text = f"{num_different} usable of {statuses.total()} images"
    text += ", copies counted once" if num_different < statuses["ok"] else ""
    reasons = Counter({status: num for status, num in statuses.items() if status != "ok"})
    text += "".join(f" ({num}: {status})" for status, num in reasons.most_common(1))
    return f"{text}; at least {MIN_CLASS_IMAGES} are needed"
