"""From the trials of a sweep to its axes: what differs between them, and who can be compared."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raylab.config.fields import root
from raylab.results.leaderboard import differing_columns

REPEATS = ("seed", "split.fold")
"""Columns that repeat a config rather than change it."""
MAX_ZIPPED = 12
"""More values than anyone zips: drawn numbers differ in every trial, and do not move together."""


@dataclass(frozen=True)
class Axis:
    """One field of the config that differs, or several that always move together."""

    fields: tuple[str, ...]
    levels: tuple[str, ...]
    """As shown, in their order: numbers ascending, words as they come."""
    codes: "pd.Series[int]"
    """Per trial of the frame (same index) its level's position."""

    @property
    def name(self) -> str:
        """`lr`, or `model + lr` where both move together."""
        return " + ".join(self.fields)


def find_axes(frame: pd.DataFrame, drawn: Collection[str] = ()) -> list[Axis]:
    """The axes of these trials; fields that determine each other (zip, split fractions) are one.

    drawn: fields each drawn by itself. Values that differ in every trial determine each other, and
    say nothing of whether they move together.
    """
    grouped: list[tuple[list[str], pd.Series[int]]] = []
    for name in differing_columns(frame):
        if name in REPEATS:
            continue
        codes = _codes(frame[name])
        for names, known in grouped:
            is_apart = {root(name), root(names[0])} <= set(drawn) and root(name) != root(names[0])
            is_few = codes.nunique() <= MAX_ZIPPED
            if not is_apart and is_few and _is_same_partition(codes, known):
                names.append(name)
                break
        else:
            grouped.append(([name], codes))
    return [Axis(tuple(names), _levels(frame, names, codes), codes) for names, codes in grouped]


def drawn_fields(grid: Mapping[str, Any]) -> frozenset[str]:
    """The fields that a search draws, each by itself; grid: as the sweep has written it."""
    is_drawn = grid.get("search", "grid") != "grid"
    return frozenset(map(root, grid.get("axes", {}))) if is_drawn else frozenset()


def remaining(axes: Sequence[Axis], frame: pd.DataFrame) -> list[Axis]:
    """The axes of which these trials, some of those they were found in, still have two levels."""
    left = []
    for axis in axes:
        codes = _codes(frame[axis.fields[0]])
        if codes.nunique() > 1:
            left.append(Axis(axis.fields, _levels(frame, axis.fields, codes), codes))
    return left


def contexts(frame: pd.DataFrame, axes: Sequence[Axis], varied: Sequence[Axis]) -> "pd.Series[int]":
    """Per trial its context: trials of one agree in all but the varied axes, seed and fold too."""
    repeats = [_codes(frame[name]) for name in REPEATS if name in frame]
    return _grouped(frame, [*_fixed(axes, varied), *repeats])


def settings(frame: pd.DataFrame, axes: Sequence[Axis], varied: Sequence[Axis]) -> "pd.Series[int]":
    """The same without seed and fold: contexts of one setting repeat each other."""
    return _grouped(frame, _fixed(axes, varied))


def _fixed(axes: Sequence[Axis], varied: Sequence[Axis]) -> list["pd.Series[int]"]:
    return [axis.codes for axis in axes if axis not in varied]


def _grouped(frame: pd.DataFrame, fixed: list["pd.Series[int]"]) -> "pd.Series[int]":
    if not fixed:
        return pd.Series(0, index=frame.index)
    keys = pd.concat(fixed, axis=1, keys=[str(i) for i in range(len(fixed))])
    return keys.groupby(list(keys.columns)).ngroup()


def _codes(column: "pd.Series[Any]") -> "pd.Series[int]":
    """Numbers by size, words in the order of their first trial; a missing value is a level too."""
    codes, _ = pd.factorize(
        column, sort=pd.api.types.is_numeric_dtype(column), use_na_sentinel=False
    )
    return pd.Series(codes, index=column.index)


def _is_same_partition(a: "pd.Series[int]", b: "pd.Series[int]") -> bool:
    pairs = pd.DataFrame({"a": a, "b": b}).drop_duplicates()
    return len(pairs) == a.nunique() == b.nunique()


def _levels(frame: pd.DataFrame, names: Sequence[str], codes: "pd.Series[int]") -> tuple[str, ...]:
    first = codes.drop_duplicates().sort_values().index
    rows = frame.loc[first, list(names)].to_dict("records")
    return tuple(", ".join(shown(row[name]) for name in names) for row in rows)


def shown(value: object) -> str:
    """A field's value in a sentence."""
    return f"{value:g}" if isinstance(value, float) else str(value)
