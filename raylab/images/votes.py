"""From the votes of several people on an image to its label, or to a share per class.

A manifest has them in a column per class: `votes_happy`, `votes_sad`, …
N = images, K = classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylab.errors import Problem, Refused
from raylab.images.found import Found, clean_label

PREFIX = "votes_"

Votes = dict[str, float]
"""By class, how many people (or how much trust) it has."""


def vote_columns(columns: Iterable[str]) -> dict[str, str]:
    """Of a manifest's columns those that count votes, and the class of each."""
    return {c: clean_label(c.removeprefix(PREFIX)) for c in columns if c.startswith(PREFIX)}


def read_votes(row: Mapping[str, Any], columns: Mapping[str, str]) -> Votes | None:
    """A row's votes by class; None where nobody voted. columns: see `vote_columns`.

    ValueError where a cell is no number >= 0; an empty one is 0.
    """
    votes = {name: _number(column, row.get(column)) for column, name in columns.items()}
    return votes if any(votes.values()) else None


def _number(column: str, cell: Any) -> float:
    gap = cell is None or cell != cell  # the gaps of a table of floats are NaN
    text = "" if gap else str(cell).strip()
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"{column}: {text!r} is no number of votes; give 0, 1, 2, …")
    return number


def plurality(votes: Votes) -> str:
    """The class with the most votes; of equals the one whose column stands first."""
    return max(votes, key=lambda name: votes[name])


def as_labelled(found: Sequence[Found], location: str) -> list[Found]:
    """The images with their votes under the labels' own spelling (headers are read in lower case).

    Refused where people voted for a class of which no image has the label.
    """
    spelling = {image.label.lower(): image.label for image in found}
    voted = {name for image in found for name, n in (image.votes or {}).items() if n > 0}
    strangers = sorted(voted - set(spelling))
    if strangers:
        text = "no image has this label; take the column out, or label its images so"
        problems = [Problem(f"{location}:1", f"{PREFIX}{name}: {text}") for name in strangers]
        raise Refused(problems, location)
    return [
        image
        if image.votes is None
        else replace(image, votes={spelling[n]: v for n, v in image.votes.items() if n in spelling})
        for image in found
    ]


def soft_labels(
    table: pa.Table, labels: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.float32] | None:
    """float32 (N, K): shares of the votes, and all for the label where nobody voted.

    table: N rows of images.parquet; labels: int64 (N,). None where nobody voted at all.
    """
    if "votes" not in table.column_names:
        return None
    soft = np.eye(num_classes, dtype=np.float32)[labels]
    for place, votes in enumerate(table["votes"].to_pylist()):
        if votes is not None:
            soft[place] = np.asarray(votes) / sum(votes)
    return soft
