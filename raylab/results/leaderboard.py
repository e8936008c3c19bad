"""From one or several results directories to one leaderboard frame, and to its ranking."""

import difflib
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from raylab.config.identity import ADDED
from raylab.config.sweep import metric_mode
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.record import CONFIG_COLUMNS, LEADERBOARD_SCHEMA


def read(locations: Sequence[str]) -> pd.DataFrame:
    """The trials of these results directories or URIs, one row each, with a `sweep` column.

    Readable while a sweep is running. Integers stay integers where some are missing (Int64).
    Refused if one of them holds no results.
    """
    problems: list[Problem] = []
    tables: dict[str, pa.Table] = {}
    for location in dict.fromkeys(locations):
        results = ResultsDirectory(location)
        table = results.leaderboard()
        if table.num_rows == 0:
            problems.append(Problem(location, _why_empty(results)))
        tables[location] = table
    if problems:
        raise Refused(problems, "the results", "no leaderboard was shown")
    names = _sweep_names(list(tables))
    named = [
        table.add_column(0, "sweep", pa.array([names[location]] * table.num_rows, pa.string()))
        for location, table in tables.items()
    ]
    merged = pa.concat_tables(named, promote_options="permissive")
    frame: pd.DataFrame = merged.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for name in ADDED & set(frame.columns):  # trials from before did what its default does
        frame[name] = frame[name].where(frame[name].notna(), TrialConfig.model_fields[name].default)
    return frame


def sweep_folders(locations: Sequence[str]) -> dict[str, ResultsDirectory]:
    """The results directory behind each value of the `sweep` column that `read` gives."""
    names = _sweep_names(list(dict.fromkeys(locations)))
    return {name: ResultsDirectory(location) for location, name in names.items()}


def ranked(frame: pd.DataFrame, by: str = "val_accuracy") -> pd.DataFrame:
    """The frame from best to worst with a `rank` column in front; rows without the measure end it.

    A failed trial comes after all others, whatever it had measured. `*_loss` and seconds rank
    upwards. Refused if there is no such numeric column.
    """
    _check_rankable(frame, by)
    by_down = metric_mode(by) == "max"
    order = frame.assign(_failed=frame["status"] == "failed").sort_values(
        ["_failed", by, "trial_id"],
        ascending=[True, not by_down, True],  # the id only keeps equals in a steady order
        na_position="last",
        kind="stable",
    )
    order = order.drop(columns=["_failed", "rank"], errors="ignore").reset_index(drop=True)
    order.insert(0, "rank", range(1, len(order) + 1))
    return order


def differing_columns(frame: pd.DataFrame) -> list[str]:
    """The config's columns, in their order, in which the trials of the frame differ; without a
    filter that only follows from the weights, for which planning chose it.
    """
    return [
        name
        for name in CONFIG_COLUMNS
        if name in frame and _differs(frame[name]) and not _follows(frame, name)
    ]


def _differs(column: "pd.Series[Any]") -> bool:
    """Whether it holds two values, of which a missing one is one; nothing is sorted or hashed."""
    known = column.dropna()
    if known.empty or len(known) < len(column):
        return not known.empty
    return bool((known != known.iloc[0]).any())


def _follows(frame: pd.DataFrame, name: str) -> bool:
    weights = [column for column in ("model", "pretrained") if column in frame]
    if name != "interpolation" or not weights:
        return False
    return bool((frame.groupby(weights, dropna=False)[name].nunique(dropna=False) == 1).all())


def _check_rankable(frame: pd.DataFrame, by: str) -> None:
    numeric = [name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])]
    # A measure that no trial has (all null) has lost its type on the way, not its right to rank.
    numeric += [name for name in LEADERBOARD_SCHEMA.names if name in frame and _is_number(name)]
    if by in numeric:
        return
    if by in frame:
        text = "is no numeric column; rank by a measure such as val_accuracy"
    else:
        near = difflib.get_close_matches(by, numeric, n=1)
        text = "no such column" + (f"; did you mean {near[0]}?" if near else "")
    raise Refused([Problem("--by", f"{by}: {text}")], "the options", "no leaderboard was shown")


def _is_number(name: str) -> bool:
    kind = LEADERBOARD_SCHEMA.field(name).type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _why_empty(results: ResultsDirectory) -> str:
    if results.folder.is_local and not results.folder.names():
        return "no such results directory, or it is empty"
    return "holds no finished trial (no leaderboard.parquet, no records)"


def _sweep_names(locations: Sequence[str]) -> dict[str, str]:
    """Each sweep's name from its grid, or its folder's; the location where names are not unique."""
    names = {location: _sweep_name(location) for location in locations}
    taken = list(names.values())
    return {
        location: name if taken.count(name) == 1 else location for location, name in names.items()
    }


def _sweep_name(location: str) -> str:
    results = ResultsDirectory(location)
    try:
        name = results.grid().get("name")
    except (FileNotFoundError, ValueError, TypeError):
        name = None
    return str(name or results.location.partition("?")[0].rpartition("/")[2])
