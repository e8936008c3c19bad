"""From an image table to what its identical copies say: duplicates, conflicting labels, leaks.

Pure: values in, values out, decodes nothing. Copies are found by the content's hash, and images
whose `status` (where the table has one) is not ok are no copies of anything.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Findings:
    """Counts over the usable images; `conflicting` is (N,) over all rows of the table."""

    num_images: int
    num_distinct: int
    num_duplicate_groups: int
    """Contents that stand there twice or more."""
    num_conflicting_groups: int
    """Contents under more than one label."""
    num_leaks: int
    """Contents in more than one given split."""
    conflicting: Rows

    @property
    def num_conflicting(self) -> int:
        """Images whose content stands under more than one label."""
        return int(self.conflicting.sum())


def conflicting(images: pa.Table) -> Rows:
    """(N,) True where the row's content stands under more than one label.

    `images` has sha256 and label, and maybe status.
    """
    content, num_contents = _codes(images["sha256"])
    usable = _are_usable(images)
    return _differing(content, num_contents, images["label"], usable)[content] & usable


def find(images: pa.Table) -> Findings:
    """What the copies of an image table say; it has sha256, label, given_split, maybe status."""
    usable = _are_usable(images)
    content, num_contents = _codes(images["sha256"])
    counts = np.bincount(content[usable], minlength=num_contents)
    conflicts = _differing(content, num_contents, images["label"], usable)
    splits = images["given_split"]
    leaks = _differing(content, num_contents, splits, usable & _are_given(splits))
    return Findings(
        num_images=int(usable.sum()),
        num_distinct=int((counts > 0).sum()),
        num_duplicate_groups=int((counts > 1).sum()),
        num_conflicting_groups=int(conflicts.sum()),
        num_leaks=int(leaks.sum()),
        conflicting=conflicts[content] & usable,
    )


def one_line(findings: Findings, left_out: bool = True, as_given: bool = False) -> str:
    """The findings as a sweep shows them; `left_out`: whether it leaves conflicting images out;
    `as_given`: whether copies stay on the sides that the source gives them.
    """
    parts = [f"{findings.num_distinct:,} distinct of {findings.num_images:,} images"]
    if findings.num_duplicate_groups:
        fate = "" if as_given else " kept on one side"
        parts.append(f"{findings.num_duplicate_groups:,} duplicate groups{fate}")
    if findings.num_conflicting_groups:
        fate = "left out" if left_out else "kept"
        parts.append(
            f"{findings.num_conflicting:,} images in {findings.num_conflicting_groups:,} groups "
            f"with conflicting labels {fate}"
        )
    if findings.num_leaks:
        parts.append(f"{findings.num_leaks:,} contents stand in more than one given split")
    return "; ".join(parts)


def differing_groups(groups: Codes, values: pa.ChunkedArray) -> Rows:
    """(N,) True where the row's group (its code; negative = in none) has more than one value.

    Null values do not count.
    """
    members = groups >= 0
    num_groups = int(groups.max(initial=-1)) + 1
    differing = _differing(groups, num_groups, values, members & _are_given(values))
    result: Rows = members.copy()
    result[members] = differing[groups[members]]
    return result


def _differing(content: Codes, num_contents: int, values: pa.ChunkedArray, rows: Rows) -> Rows:
    """(num_contents,) True for contents that carry more than one value among the given rows."""
    value, num_values = _codes(pc.fill_null(values, ""))
    lowest = np.full(num_contents, num_values, dtype=np.int64)
    highest = np.full(num_contents, -1, dtype=np.int64)
    np.minimum.at(lowest, content[rows], value[rows])
    np.maximum.at(highest, content[rows], value[rows])
    return lowest < highest


def _codes(column: pa.ChunkedArray) -> tuple[Codes, int]:
    """(N,) 0..K-1, equal where the strings are; and K."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(encoded.dictionary)


def _are_given(column: pa.ChunkedArray) -> Rows:
    return np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _are_usable(images: pa.Table) -> Rows:
    if "status" not in images.column_names:
        return np.ones(images.num_rows, dtype=np.bool_)
    ok = pc.fill_null(pc.equal(images["status"], "ok"), False)
    return np.asarray(ok.to_numpy(zero_copy_only=False), dtype=np.bool_)
