"""From a source to what is wrong with it, before any training: one table row per image, and counts.

It decodes every distinct content once, in threads. Copies of one picture are found by their decoded
pixels, near-copies as `raylab.images.near` says, persons by file names.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylab.images.conflicts import differing_groups
from raylab.images.found import read_content
from raylab.images.groups import group_names
from raylab.images.inspection import Inspected, inspect
from raylab.images.near import SIDE, Pairs, groups_of, near_pairs
from raylab.images.people import find_people
from raylab.images.source import Source
from raylab.machine import num_cpus

Rows = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]
"""Called with what is done, and how many of how many are."""

MAX_SIZES = 5
CHUNK = 64  # images per task: threads should work, not queue
NUM_THREADS_PER_CPU = 2  # one reads while the other decodes
MAX_THREADS = 32  # each holds a whole picture, 36 MB of 12 megapixels


@dataclass(frozen=True)
class Audit:
    """`table`, one row per image of the source, in its order:

    image_id, path, label, given_split, group, sha256; pixel_sha256, width, height, mode (null, 0
    where not decoded); status (`ok`, or why it cannot be used); blank; duplicate_group: images of
    identical pixels; near_group: images that are one picture; near_image_id, near_correlation,
    mirrored: the most similar near-copy; recoded: a copy of identical pixels has other bytes;
    conflict, near_conflict: the group has several labels; leak, near_leak: it stands in several
    given splits; group_leak: so does the image's `group`; person. Numbers of groups are null for
    images in none; `person` is null where no pattern is offered.
    """

    location: str
    table: pa.Table
    group_pattern: str | None
    """What `split.group_pattern` could be; None: names tell no persons."""
    remarks: tuple[str, ...]
    """As the source has them."""

    def summary(self) -> dict[str, Any]:
        """Counts as plain JSON values; `wrong` names what --strict objects to."""
        table, ok = self.table, self.table.filter(pc.equal(self.table["status"], "ok"))
        counts: dict[str, Any] = {
            "images": table.num_rows,
            "unreadable": table.num_rows - ok.num_rows,
            "distinct": len(ok["pixel_sha256"].unique()),
            "blank": _count(ok["blank"]),
            **_copies(ok, "duplicate_group", "duplicate"),
            "recoded": _count(ok["recoded"]),
            **_copies(ok, "near_group", "near_duplicate"),
            "conflicting": _count(ok["conflict"]),
            "conflicting_groups": _groups(ok, "conflict", "duplicate_group"),
            "near_conflicting": _count(ok["near_conflict"]),
            "near_conflicting_groups": _groups(ok, "near_conflict", "near_group"),
            "leaking": _count(ok["leak"]),
            "leaking_groups": _groups(ok, "leak", "duplicate_group"),
            "near_leaking": _count(ok["near_leak"]),
            "near_leaking_groups": _groups(ok, "near_leak", "near_group"),
            "group_leaking": _count(ok["group_leak"]),
            "group_leaking_groups": _groups(ok, "group_leak", "group"),
        }
        harmless = ("images", "distinct")
        return {
            "source": self.location,
            **counts,
            "people": len(ok["person"].drop_null().unique()),
            "group_pattern": self.group_pattern,
            "classes": _tally(table["label"].to_pylist()),
            "splits": _tally(table["given_split"].drop_null().to_pylist()),
            "modes": _tally(ok["mode"].to_pylist()),
            "sizes": _sizes(ok),
            "reasons": _tally(
                table["status"].filter(pc.not_equal(table["status"], "ok")).to_pylist()
            ),
            "remarks": list(self.remarks),
            "wrong": [name for name, n in counts.items() if n and name not in harmless],
        }


def audit(source: Source, progress: Progress = lambda what, done, total: None) -> Audit:
    """Everything that raylab can find wrong with a source; nothing is written."""
    table = source.table
    images = _inspect_all(table, progress)
    picture = _numbered([image.pixel_sha256 for image in images])
    pairs = _near_pairs(images, picture, progress)
    people = None
    if table["group"].null_count == source.num_images:
        people = find_people(table["path"].to_pylist(), table["label"].to_pylist())
    given = ("image_id", "path", "label", "given_split", "group", "sha256")
    duplicate, near = _repeated(picture), _spread(groups_of(_num(picture), pairs), picture)
    columns = {
        **{name: table[name] for name in given},
        **_alone(images),
        "duplicate_group": _nullable(duplicate),
        "near_group": _nullable(near),
        **_best_partner(pairs, picture, table["image_id"]),
        "recoded": differing_groups(duplicate, table["sha256"]),
        "conflict": differing_groups(duplicate, table["label"]),
        "near_conflict": differing_groups(near, table["label"]),
        "leak": differing_groups(duplicate, table["given_split"]),
        "near_leak": differing_groups(near, table["given_split"]),
        "group_leak": differing_groups(_groups_of(table, images), table["given_split"]),
        "person": pa.array(people.persons if people else [None] * len(images), pa.string()),
    }
    pattern = people.pattern if people else None
    return Audit(source.location, pa.table(columns), pattern, source.remarks)


def _inspect_all(table: pa.Table, progress: Progress) -> list[Inspected]:
    """One per row; every distinct content is read and decoded once."""
    contents: dict[str, tuple[str | None, bytes | None, str | None]] = {}
    names = ("sha256", "file", "pixels", "trouble")
    for sha256, *where in zip(*(table[name].to_pylist() for name in names), strict=True):
        contents.setdefault(sha256, (where[0], where[1], where[2]))
    jobs = list(contents.values())
    inspected: list[Inspected] = []
    num_threads = min(num_cpus() * NUM_THREADS_PER_CPU, MAX_THREADS)
    with ThreadPoolExecutor(num_threads) as threads:
        chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
        for chunk in threads.map(lambda chunk: [_inspect(*job) for job in chunk], chunks):
            inspected += chunk
            progress("decoded", len(inspected), len(jobs))
    by_content = dict(zip(contents, inspected, strict=True))
    return [by_content[sha256] for sha256 in table["sha256"].to_pylist()]


def _inspect(file: str | None, content: bytes | None, trouble: str | None) -> Inspected:
    if trouble is not None:
        return Inspected(trouble)
    try:
        return inspect(read_content(str(file)) if content is None else content)
    except OSError as error:  # it was there when the source was scanned
        return Inspected(f"cannot be read: {error.strerror or error}")


def _near_pairs(images: Sequence[Inspected], picture: Rows, progress: Progress) -> Pairs:
    """Pairs of picture numbers. A blank picture is like every other blank one, so is no copy."""
    _, first = np.unique(picture, return_index=True)
    rows = [row for row in first if images[row].face is not None and not images[row].blank]
    faces = np.array([images[row].face for row in rows], dtype=np.uint8).reshape(-1, SIDE, SIDE)
    pairs = near_pairs(faces, lambda done, total: progress("compared", done, total))
    number = picture[np.array(rows, dtype=np.int64)]
    return replace(pairs, first=number[pairs.first], second=number[pairs.second])


def _alone(images: Sequence[Inspected]) -> dict[str, pa.Array]:
    """The columns that follow from each image by itself."""
    return {
        "pixel_sha256": pa.array([image.pixel_sha256 for image in images], pa.string()),
        "width": pa.array([image.width for image in images], pa.int32()),
        "height": pa.array([image.height for image in images], pa.int32()),
        "mode": pa.array([image.mode for image in images], pa.string()),
        "status": pa.array([image.status for image in images], pa.string()),
        "blank": pa.array([image.blank for image in images], pa.bool_()),
    }


def _best_partner(
    pairs: Pairs, picture: Rows, image_ids: pa.ChunkedArray
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Per image, its most similar near-copy, how similar, and whether it is the mirror image."""
    numbers, first_rows = np.unique(picture, return_index=True)
    row_of = np.full(_num(picture), -1, dtype=np.int64)
    row_of[numbers[numbers >= 0]] = first_rows[numbers >= 0]
    best = np.full((_num(picture), 2), -1, dtype=np.int64)  # row of the partner, of the pair
    order = np.argsort(pairs.correlation, kind="stable")  # written last: the highest
    for one, other in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        for pair in order.tolist():
            held = best[one[pair], 1]
            if held < 0 or pairs.correlation[pair] > pairs.correlation[held]:
                best[one[pair]] = row_of[other[pair]], pair
    rows, pair_of = _spread(best[:, 0], picture), _spread(best[:, 1], picture)
    chosen = _nullable(pair_of)
    return {
        "near_image_id": image_ids.take(_nullable(rows)),
        "near_correlation": pa.array(pairs.correlation, pa.float32()).take(chosen),
        "mirrored": pa.array(pairs.mirrored, pa.bool_()).take(chosen),
    }


def _numbered(contents: Sequence[str | None]) -> Rows:
    """(N,) 0, 1, 2 … by first appearance, equal where the contents are; -1 for None."""
    numbers: dict[str | None, int] = {None: -1}
    for content in contents:
        numbers.setdefault(content, len(numbers) - 1)
    return np.array([numbers[content] for content in contents], dtype=np.int64)


def _groups_of(table: pa.Table, images: Sequence[Inspected]) -> Rows:
    """(N,) the number of each usable image's group; -1 where it has none."""
    named = zip(group_names(table, ""), images, strict=True)
    return _numbered([name if image.status == "ok" else None for name, image in named])


def _num(numbers: Rows) -> int:
    return int(numbers.max(initial=-1)) + 1


def _repeated(numbers: Rows) -> Rows:
    """(N,) numbers anew for those that stand there more than once; -1 for all others."""
    counts = np.bincount(numbers[numbers >= 0], minlength=1)
    return _spread(np.where(counts > 1, np.cumsum(counts > 1) - 1, -1), numbers)


def _spread(values: Rows, numbers: Rows) -> Rows:
    """(N,) the value of each image's number; -1 where it has none."""
    return np.append(values, -1)[numbers]


def _nullable(numbers: Rows) -> pa.Array:
    return pa.array(numbers, pa.int64(), mask=numbers < 0)


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def _groups(rows: pa.Table, flag: str, group: str) -> int:
    return len(rows.filter(rows[flag])[group].unique())


def _copies(ok: pa.Table, group: str, kind: str) -> dict[str, int]:
    members = ok[group].drop_null()
    return {f"{kind}s": len(members), f"{kind}_groups": len(members.unique())}


def _tally(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _sizes(ok: pa.Table) -> dict[str, Any]:
    """How many of each width x height, the most frequent first; and the extremes."""
    sizes = Counter(zip(ok["width"].to_pylist(), ok["height"].to_pylist(), strict=True))
    sides = [min(size) for size in sizes] or [0]
    common = {f"{w}x{h}": count for (w, h), count in sizes.most_common(MAX_SIZES)}
    return {"common": common, "num": len(sizes), "min_side": min(sides), "max_side": max(sides)}
