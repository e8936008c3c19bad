"""From what `data:` names to one table of images with content hashes; decodes nothing.

A source is a folder per class (or train/val/test folders of those), a manifest, Kaggle's
fer2013.csv, or `toy`, the built-in drawn faces.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raylab.errors import Problem, Refused
from raylab.images.folders import find_in_folder, hint_for
from raylab.images.found import Found, file_name, identify, is_uri, some_of
from raylab.images.manifests import find_in_manifest
from raylab.images.toy import find_toy, is_toy

NUM_HASH_THREADS = 8  # hashing waits for disks and networks; more threads gained nothing
NUM_TIMED, SLOW_S = 64, 0.06
"""Files that come so quickly are read in one thread: of several, each would wait for the others'
lock of the interpreter, 2.1 s in place of 0.8 s for 10,000 of 12 kB."""
CHUNK = 64
"""Images that one of these threads takes at once: to wait for each alone costs 1.6 kB."""
IMAGE_ID_HEX = 16
FINGERPRINT_HEX = 16

SOURCE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("sha256", pa.string()),
        ("group", pa.string()),
        ("given_split", pa.string()),
        ("file", pa.string()),
        ("pixels", pa.large_binary()),
        ("trouble", pa.string()),
        ("votes", pa.list_(pa.float64())),
        ("box", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class Source:
    """All images of a source, ordered by label and path.

    `table` has SOURCE_SCHEMA: `image_id` (from the content, unique), `path` (as shown), `label`,
    `sha256`, `group` and `given_split` (null where the source says nothing), and where the bytes
    are: `file` (path or URI) or `pixels` (an encoded image, inline). `trouble` says why the bytes
    could not be read; null = they could. `votes`: how many people saw each of `classes`; null where
    nobody was asked. `box`: left, top, width, height of the face in px; null where nobody said.
    """

    location: str
    table: pa.Table
    classes: tuple[str, ...]
    fingerprint: str
    """16 hex digits over content, labels, groups, given splits, votes and boxes; names do not
    matter."""
    remarks: tuple[str, ...]
    """What lies there and is not taken, or hardly meant so; a line each."""

    @property
    def num_images(self) -> int:
        """Rows of the table, unreadable ones included."""
        return int(self.table.num_rows)

    @property
    def has_splits(self) -> bool:
        """True where the source itself says which images train."""
        return bool(self.table["given_split"].null_count < self.table.num_rows)

    @property
    def has_votes(self) -> bool:
        """True where people voted on some image."""
        return bool(self.table["votes"].null_count < self.table.num_rows)


def scan(data: str) -> Source:
    """The source that `data` names; Refused where there is none, or nothing to tell apart in it."""
    found, remarks = _find(data)
    problems = _problems_of(data, found)
    if problems:
        raise Refused(problems, data)
    identities = _identities(found)
    if all(trouble is not None for _, trouble in identities):
        first = f"none of {len(found)} images can be read; {found[0].path} {identities[0][1]}"
        raise Refused([Problem(data, first)], data)
    classes = tuple(sorted({image.label for image in found}))
    table = _table(found, identities, classes)
    remarks += _spellings(classes)
    return Source(data, table, classes, _fingerprint(table), tuple(remarks))


def _identities(found: Sequence[Found]) -> list[tuple[str, str | None]]:
    """Of each image, in their order; side by side where the first ones took long to come."""
    began = time.perf_counter()
    first: list[tuple[str, str | None]] = []
    while len(first) < min(NUM_TIMED, len(found)) and time.perf_counter() - began < SLOW_S:
        first.append(identify(found[len(first)]))
    rest = found[len(first) :]
    if time.perf_counter() - began < SLOW_S:
        return first + [identify(image) for image in rest]
    chunks = [rest[i : i + CHUNK] for i in range(0, len(rest), CHUNK)]
    with ThreadPoolExecutor(NUM_HASH_THREADS) as threads:
        read = threads.map(lambda chunk: [identify(image) for image in chunk], chunks)
        return first + [identity for identities in read for identity in identities]


def _spellings(classes: Iterable[str]) -> list[str]:
    """A remark on labels that are hardly classes of their own."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.casefold(), []).append(name)
    told = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if not told:
        return []
    return [f"labels that differ only in capitals are classes of their own: {some_of(told)}"]


def _find(data: str) -> tuple[list[Found], list[str]]:
    """The images, and remarks."""
    if is_toy(data):
        return find_toy(data), []
    if file_name(data).lower().endswith((".csv", ".parquet")) and not os.path.isdir(data):
        if not is_uri(data) and not os.path.exists(data):
            raise Refused([Problem(data, "no such file")], data)
        return find_in_manifest(data)
    if not is_uri(data) and not os.path.isdir(data):
        text = "is no folder, no .csv and no .parquet" if os.path.exists(data) else "no such folder"
        raise Refused([Problem(data, text + _neighbour(data))], data)
    try:
        return find_in_folder(data)
    except OSError as error:
        place = error.filename or data
        text = f"cannot be listed: {error.strerror or error}; mend that, or take it away"
        raise Refused([Problem(str(place), text)], data) from error


def _neighbour(data: str) -> str:
    """`; there is: faces, masks` for a path whose last part does not exist."""
    parent = Path(data).parent
    if os.path.exists(data) or not parent.is_dir():
        return ""
    folders = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    shown = [name for name in folders if not name.startswith(".")][:5]
    return f"; {parent} has {', '.join(shown)}" if shown else ""


def _problems_of(data: str, found: Sequence[Found]) -> list[Problem]:
    classes = Counter(image.label for image in found)
    is_folder = is_uri(data) or os.path.isdir(data)
    if not found:
        return [Problem(data, "no images in it" + (hint_for(data) if is_folder else ""))]
    if len(classes) == 1:
        only, count = classes.most_common(1)[0]
        text = f"only one class, {only!r} ({count} images); at least 2 are needed"
        return [Problem(data, text + (hint_for(data) if is_folder else ""))]
    unsplit = sum(image.given_split is None for image in found)
    if 0 < unsplit < len(found):
        return [Problem(data, f"{unsplit} of {len(found)} images have no split, the others do")]
    return []


def _table(
    found: Sequence[Found], identities: Sequence[tuple[str, str | None]], classes: Sequence[str]
) -> pa.Table:
    order = sorted(range(len(found)), key=lambda i: (found[i].label, found[i].path))
    images = [found[i] for i in order]
    hashes = [identities[i][0] for i in order]
    return pa.table(
        {
            "image_id": _image_ids(hashes),
            "path": [image.path for image in images],
            "label": [image.label for image in images],
            "sha256": hashes,
            "group": [image.group for image in images],
            "given_split": [image.given_split for image in images],
            "file": [None if identities[i][1] else found[i].file for i in order],
            "pixels": [image.content for image in images],
            "trouble": [identities[i][1] for i in order],
            "votes": [
                None if image.votes is None else [image.votes.get(name, 0.0) for name in classes]
                for image in images
            ],
            "box": [image.box for image in images],
        },
        schema=SOURCE_SCHEMA,
    )


def _image_ids(hashes: Iterable[str]) -> list[str]:
    """Start of the content hash; the second and later copies get `-2`, `-3` in the given order."""
    seen: Counter[str] = Counter()
    ids = []
    for sha256 in hashes:
        seen[sha256] += 1
        start = sha256[:IMAGE_ID_HEX]
        ids.append(start if seen[sha256] == 1 else f"{start}-{seen[sha256]}")
    return ids


def _fingerprint(table: pa.Table) -> str:
    columns = ("sha256", "label", "given_split", "group")
    values: list[list[Any]] = [pc.fill_null(table[name], "").to_pylist() for name in columns]
    if table["votes"].null_count < table.num_rows:
        values.append([str(votes) for votes in table["votes"].to_pylist()])
    if table["box"].null_count < table.num_rows:
        values.append([str(box) for box in table["box"].to_pylist()])
    lines = sorted("\0".join(row) for row in zip(*values, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:FINGERPRINT_HEX]
