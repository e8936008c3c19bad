"""From a CSV or Parquet manifest, or Kaggle's fer2013.csv, to its images.

Every row that is wrong is reported with its line; whether the files exist is not looked at here.
"""

import csv
import difflib
import io
import math
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylab.errors import Problem, Refused
from raylab.images.boxes import COLUMNS as BOX_COLUMNS
from raylab.images.boxes import missing_columns, read_box
from raylab.images.found import (
    SPLIT_NAMES,
    Found,
    beside,
    clean_label,
    file_name,
    is_uri,
    read_content,
    some_of,
)
from raylab.images.votes import as_labelled, plurality, read_votes, vote_columns

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OPTIONAL_COLUMNS = ("split", "group", *BOX_COLUMNS)
MISSPELT = {
    "groups": "group",
    "splits": "split",
    **{f"b{name}": name for name in BOX_COLUMNS},
}
"""Columns that were meant to be read; of others, such as `age_group`, nobody can tell."""
MAX_SHOWN_PROBLEMS = 20
MAX_CELL = 2**26
"""Characters: pixels of 4,000 x 4,000 as Kaggle writes them."""

Row = tuple[str, Mapping[str, Any]]
"""Where the row stands (`faces.csv:7`), and its values by lower-case column name."""


def find_in_manifest(location: str) -> tuple[list[Found], list[str]]:
    """Images of a `.csv` or `.parquet` manifest with columns path, label and maybe split (or Usage,
    as Kaggle calls it), group, box_x, box_y, box_w, box_h, and `votes_<class>` per class (which may
    stand in place of the label); or of a CSV with columns emotion and pixels, as Kaggle gives
    FER2013, and maybe the others. And a remark on columns that are not read.
    """
    try:
        content = read_content(location)
    except OSError as error:
        raise _refused(
            location, [Problem(location, f"cannot be read: {error.strerror or error}")]
        ) from error
    is_csv = file_name(location).lower().endswith(".csv")
    columns, rows = _csv_rows(location, content) if is_csv else _parquet_rows(location, content)
    if faults := list(_faults_of(columns)):
        raise _refused(location, [Problem(f"{location}:1", text) for text in faults])
    has_split, voted = "split" in columns, vote_columns(columns)
    image = _fer2013_image if _is_fer2013(columns) else _manifest_image

    def read(place: str, row: Mapping[str, Any]) -> Found:
        found, votes = image(location, place, row), read_votes(row, voted)
        label = found.label or (plurality(votes) if votes is not None else "")
        if not label:
            raise ValueError("label is empty, and nobody voted" if voted else "label is empty")
        return replace(
            found,
            label=label,
            group=unicodedata.normalize("NFC", _text(row.get("group"))) or None,
            given_split=_split(_text(row.get("split"))) if has_split else _usage(row),
            votes=votes,
            box=read_box(row),
        )

    found = _collect(location, rows, read)
    unread = _unread(columns)
    remarks = [f"columns that are not read: {some_of(unread)}"] if unread else []
    return as_labelled(found, location) if voted else found, remarks


def _collect(location: str, rows: Iterator[Row], read: Any) -> list[Found]:
    """All images, or all the rows' problems."""
    found: list[Found] = []
    problems: list[Problem] = []
    for place, row in rows:
        try:
            found.append(read(place, row))
        except ValueError as error:
            problems.append(Problem(place, str(error)))
    if problems:
        raise _refused(location, problems)
    return found


def _refused(location: str, problems: list[Problem]) -> Refused:
    shown = problems[:MAX_SHOWN_PROBLEMS]
    if len(problems) > len(shown):
        more = len(problems) - len(shown)
        shown.append(Problem(location, f"{more} more rows have problems like these"))
    return Refused(shown, location)


def _manifest_image(location: str, place: str, row: Mapping[str, Any]) -> Found:
    """One row of a manifest; the label is '' where it has none."""
    path, label = _text(row.get("path")), clean_label(_text(row.get("label")))
    if not path:
        raise ValueError("path is empty")
    if "\n" in path or "\n" in label:
        raise ValueError("path or label goes on in the next line: a quote is opened and not closed")
    if is_uri(location) and leaves(path):
        raise ValueError(
            f"path: {path!r} leaves the folder of a manifest that lies elsewhere; paths in it are "
            "relative to it, or URIs"
        )
    return Found(path=path, label=label, file=_as_stored(beside(location, path)))


def _as_stored(file: str) -> str:
    """The name as this machine's disk has it: macOS writes 기쁨 in parts, other systems whole, and
    Windows writes folder\\name.
    """
    if is_uri(file) or (file.isascii() and "\\" not in file) or os.path.exists(file):
        return file
    slashed = file.replace("\\", "/")
    forms = (unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.exists(form)), file)


def leaves(path: str) -> bool:
    """Whether a manifest of someone else's would name a file of this machine, or go up.

    One of this machine may do both: its owner can read those files anyway.
    """
    if is_uri(path):
        return path.lower().startswith("file:")
    return os.path.isabs(path) or ".." in path.split("/")


def _fer2013_image(location: str, place: str, row: Mapping[str, Any]) -> Found:
    """One row of fer2013.csv: its grey pixels become an in-memory PGM file, which PIL reads."""
    emotion = _text(row.get("emotion"))
    if emotion not in {"0", "1", "2", "3", "4", "5", "6"}:
        raise ValueError(f"emotion: {emotion!r} is not one of 0..6")
    grey = _grey(_text(row.get("pixels")))
    side = math.isqrt(len(grey))
    if side == 0 or side * side != len(grey):
        raise ValueError(f"pixels: {len(grey)} values do not fill a square")
    return Found(
        path=file_name(location) + place.removeprefix(location),
        label=FER2013_CLASSES[int(emotion)],
        content=b"P5 %d %d 255\n" % (side, side) + grey,
    )


def _grey(text: str) -> bytes:
    """numpy reads the numbers four times as fast as `int` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # all that numpy < 2.3 says of an x
        try:
            return bytes(np.fromstring(text, np.int64, sep=" ").tolist())
        except (ValueError, DeprecationWarning) as error:
            raise ValueError("pixels: not all are integers in 0..255") from error


def _usage(row: Mapping[str, Any]) -> str | None:
    """The split as Kaggle tells it; a column of this name may tell something else."""
    return SPLIT_NAMES.get(_text(row.get("usage")).lower())


def _split(text: str) -> str:
    if text.lower() not in SPLIT_NAMES:
        raise ValueError(f"split: {text!r} is not one of train, val, test")
    return SPLIT_NAMES[text.lower()]


def _text(value: Any) -> str:
    """Nothing where a table of floats has a gap."""
    return "" if value is None or value != value else str(value).strip()


def _faults_of(columns: Sequence[str]) -> Iterator[str]:
    """What is wrong with the names of the columns."""
    unread = _unread(columns)
    for wanted in () if _is_fer2013(columns) else ("path", "label"):
        if wanted in columns or (wanted == "label" and vote_columns(columns)):
            continue
        near = difflib.get_close_matches(wanted, unread, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        yield f"no column {wanted!r}, only {', '.join(columns) or 'nothing'}{hint}"
    for name in missing_columns(columns):
        yield f"no column {name!r}; the box of a face is {', '.join(BOX_COLUMNS)}"
    for name, count in Counter(columns).items():
        if count > 1 and name and name not in unread:
            yield f"column {name!r} stands there {count} times; take all but one out"
    for name in unread:
        if name in MISSPELT:
            yield f"column {name!r} is not read; rename it {MISSPELT[name]!r}, or take it out"


def _is_fer2013(columns: Collection[str]) -> bool:
    return "emotion" in columns and "pixels" in columns


def _unread(columns: Collection[str]) -> list[str]:
    named = ("emotion", "pixels") if _is_fer2013(columns) else ("path", "label")
    read = {"", *named, *OPTIONAL_COLUMNS, *vote_columns(columns)}
    if "split" not in columns:
        read.add("usage")
    return [name for name in columns if name not in read]


def _parquet_rows(location: str, content: bytes) -> tuple[tuple[str, ...], Iterator[Row]]:
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        problem = Problem(location, f"is not a Parquet file: {error}")
        raise _refused(location, [problem]) from error
    columns = tuple(str(name).strip().lower() for name in table.column_names)
    table = table.rename_columns(list(columns))
    rows = ((f"{location}:row {i}", row) for i, row in enumerate(table.to_pylist()))
    return columns, rows


def _csv_rows(location: str, content: bytes) -> tuple[tuple[str, ...], Iterator[Row]]:
    encoding = _encoding(location, content)
    header = content.partition(b"\n")[0].decode(encoding)
    delimiter = max(",;\t", key=header.count)  # max takes the first on ties: the comma
    csv.field_size_limit(MAX_CELL)
    # No text of the whole file: as one string in memory it would be four times as large.
    text = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    lines = _lines(location, csv.reader(text, delimiter=delimiter))
    columns = tuple(name.strip().lower() for name in next(lines, ("", []))[1])
    rows = (
        (place, dict(zip(columns, values, strict=False)))
        for place, values in lines
        if any(value.strip() for value in values)
    )
    return columns, rows


def _lines(location: str, reader: Any) -> Iterator[tuple[str, list[str]]]:
    """Where each row of a `csv.reader` ends, and its cells; Refused where one cannot be read."""
    try:
        for values in reader:
            yield f"{location}:{reader.line_num}", values
    except csv.Error as error:
        problem = Problem(f"{location}:{reader.line_num}", f"is no row of a CSV: {error}")
        raise _refused(location, [problem]) from error


def _encoding(location: str, content: bytes) -> str:
    """UTF-8, or CP949, which is what a Korean Excel saves a CSV as."""
    for encoding in ("utf-8-sig", "cp949"):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise _refused(location, [Problem(location, "is neither UTF-8 nor CP949 text")])
