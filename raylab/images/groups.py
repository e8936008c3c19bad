"""From an image table to its units: the images that no split may part.

Identical images belong together, and so do images of one group (person): a group column of the
source, or what a pattern finds in the path.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylab.images.balance import Counts
from raylab.images.conflicts import differing_groups


@dataclass(frozen=True)
class Units:
    """N images in U units, the units ordered by a hash of their keys.

    of_image: int64 (N,); classes: int64 (N,), of C; are_groups: bool (U,), False for a single
    image with its identical copies.
    """

    of_image: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    are_groups: npt.NDArray[np.bool_]

    def counts(self, rows: npt.NDArray[np.bool_]) -> Counts:
        """int64 (U, C): each unit's images per class, of the given rows."""
        found: Counts = np.zeros((len(self.are_groups), self.classes.max(initial=0) + 1), np.int64)
        np.add.at(found, (self.of_image[rows], self.classes[rows]), 1)
        return found


def units_of(
    contents: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str | None],
    seed: int,
) -> Units:
    """Units of images with these content hashes, labels and groups (None: it has none).

    A unit's key is its group's name, else its content; neither file names nor order matter.
    Copies under several labels count under the first of them.
    """
    keys = _keys(contents, groups)
    names = sorted(set(keys), key=lambda key: (_hash(key, seed), key))
    place = {key: index for index, key in enumerate(names)}
    first = _first_labels(contents, labels)
    codes = {label: code for code, label in enumerate(sorted(set(first)))}
    return Units(
        of_image=np.array([place[key] for key in keys], dtype=np.int64),
        classes=np.array([codes[label] for label in first], dtype=np.int64),
        are_groups=np.array([key.startswith(_GROUP) for key in names], dtype=np.bool_),
    )


def group_names(images: pa.Table, pattern: str) -> list[str | None]:
    """(N,) the group of each image, None for one that stands for itself.

    With a pattern, its capture group (without one, all it matches) in `path`; the column `group`
    is then not asked. Without a pattern, that column.
    """
    if not pattern:
        named: list[str | None] = images["group"].to_pylist()
        return [name or None for name in named]
    search = re.compile(unicodedata.normalize("NFC", pattern)).search
    paths = images["path"].to_pylist()
    matches = [search(unicodedata.normalize("NFC", path)) for path in paths]
    return [match[match.re.groups] or None if match else None for match in matches]


def describe_groups(images: pa.Table, pattern: str) -> str:
    """`118 groups over 327 of 981 images (split.group_pattern ^S[0-9]+)`; '' without any group."""
    names = group_names(images, pattern)
    known = [name for name in names if name]
    if not known:
        return ""
    origin = f"split.group_pattern {pattern}" if pattern else "group column"
    text = f"{len(set(known)):,} groups over {len(known):,} of {len(names):,} images ({origin})"
    num_leaks = _num_leaks(names, images["given_split"])
    return f"{text}; {num_leaks:,} groups stand in more than one given split" if num_leaks else text


def _num_leaks(names: Sequence[str | None], given_splits: pa.ChunkedArray) -> int:
    """Groups whose images the source gives to several sides."""
    codes = {name: code for code, name in enumerate(sorted({name for name in names if name}))}
    groups = np.array([codes[name] if name else -1 for name in names], dtype=np.int64)
    return len(np.unique(groups[differing_groups(groups, given_splits)]))


# What tells a group's key from a content's, which is hexadecimal.
_GROUP = "group:"


def _keys(contents: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """Per image, the key of its unit, after joining groups that share an identical image."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def rank(name: str) -> tuple[bool, str]:  # a group leads a content, whatever the rows' order
        return not name.startswith(_GROUP), name

    for content, group in zip(contents, groups, strict=True):
        if group:
            a, b = root(content), root(_GROUP + group)
            parent[max(a, b, key=rank)] = min(a, b, key=rank)
    return [root(content) for content in contents]


def _first_labels(contents: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Per image, the label its content counts under: the first in order, if copies disagree."""
    first: dict[str, str] = {}
    for content, label in zip(contents, labels, strict=True):
        first[content] = min(first.get(content, label), label)
    return [first[content] for content in contents]


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
