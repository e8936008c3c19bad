"""From a leaderboard frame to text: a table for eyes, or csv, json, markdown for programs."""

import io
import json
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raylab.results.leaderboard import differing_columns

Format = Literal["table", "csv", "json", "markdown"]

# A cell that was never measured.
BLANK = "–"


def render(
    frame: pd.DataFrame,
    format: Format = "table",
    top: int | None = None,
    metric: str = "val_accuracy",
    width: int | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A leaderboard as text, no newline at its end. frame: as `ranked` gives it.

    csv and json carry every column; table and markdown those in which the trials differ, the
    measures that matter, and the notes below. `width`: columns of the terminal; without it no
    line is cut or broken.
    """
    shown = frame if top is None else frame.head(top)
    if format in ("csv", "json"):
        return _for_programs(shown, format)
    cells = _cells(shown, differing_columns(frame), metric)
    if format == "markdown":
        return _markdown(cells, notes)
    return _text(cells, len(frame), "trials", width, notes)


def render_families(
    families: pd.DataFrame,
    differing: Sequence[str],
    format: Format = "table",
    top: int | None = None,
    metric: str = "val_accuracy",
    notes: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """Ranked families (analysis.families) as text like the trials; `differing` fields are shown."""
    shown = families if top is None else families.head(top)
    if format in ("csv", "json"):
        return _for_programs(shown, format)
    cells = _family_cells(shown, differing, metric)
    if format == "markdown":
        return _markdown(cells, notes)
    return _text(cells, len(families), "families", width, notes)


def render_cells(
    cells: pd.DataFrame, format: Format, notes: Sequence[str] = (), width: int | None = None
) -> str:
    """Cells that are all text already, and the notes below them (not in csv and json)."""
    if format in ("csv", "json"):
        return _for_programs(cells, format)
    if format == "markdown":
        return _markdown(cells, notes)
    return _text(cells, len(cells), "rows", width, notes)


def _for_programs(shown: pd.DataFrame, format: Format) -> str:
    if format == "csv":
        return shown.to_csv(index=False).rstrip("\n")
    rows = json.loads(shown.to_json(orient="records", double_precision=15))
    return json.dumps(rows, ensure_ascii=False, indent=2)


def _cells(board: pd.DataFrame, differing: Sequence[str], metric: str) -> pd.DataFrame:
    """What eyes see of each trial, all text."""
    columns = _leading_cells(board, differing)
    rows = _rows(board)
    columns["val_accuracy [95 %]"] = [_accuracy(row, "val_accuracy") for row in rows]
    if "tied" in board and board["tied"].notna().any():
        columns["tied"] = [value_text(mark) for mark in board["tied"]]
    columns["macro_f1"] = [number_text(row["val_macro_f1"], 3) for row in rows]
    if metric not in ("val_accuracy", "val_macro_f1", "seconds", *differing):
        columns[metric] = [number_text(row[metric], 4) for row in rows]
    columns["epoch"] = [f"{value_text(row['best_epoch'])}/{row['num_epochs']}" for row in rows]
    columns["seconds"] = [number_text(row["seconds"], 1) for row in rows]
    columns["status"] = [_status(row) for row in rows]
    return pd.DataFrame(columns, dtype="object")


def _family_cells(board: pd.DataFrame, differing: Sequence[str], metric: str) -> pd.DataFrame:
    """What eyes see of each family, all text."""
    columns = _leading_cells(board, differing)
    rows = _rows(board)
    columns["mean accuracy [95 %]"] = [_accuracy(row, "family", "_mean") for row in rows]
    columns["std"] = [number_text(row["family_std"], 4) for row in rows]
    columns["seeds"] = [str(row["num_seeds"]) for row in rows]
    if (board["num_folds"] > 1).any():
        columns["folds"] = [str(row["num_folds"]) for row in rows]
    if board["tied"].notna().any():
        columns["tied"] = [value_text(mark) for mark in board["tied"]]
    columns["macro_f1"] = [number_text(row["val_macro_f1"], 3) for row in rows]
    if metric not in ("val_accuracy", "val_macro_f1", "seconds", *differing):
        columns[metric] = [number_text(row[metric], 4) for row in rows]
    columns["seconds"] = [number_text(row["seconds"], 1) for row in rows]
    columns["status"] = [str(row["status"]) for row in rows]
    return pd.DataFrame(columns, dtype="object")


def _leading_cells(board: pd.DataFrame, differing: Sequence[str]) -> dict[str, list[str]]:
    """Rank, sweep if there are several, and the config."""
    columns = {"#": [str(rank) for rank in board["rank"]]}
    if "sweep" in board and board["sweep"].nunique() > 1:
        columns["sweep"] = [str(name) for name in board["sweep"]]
    return columns | {name: [value_text(value) for value in board[name]] for name in differing}


def _rows(board: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(board.columns, row, strict=True)) for row in board.itertuples(index=False)]


def _text(
    cells: pd.DataFrame, num_rows: int, noun: str, width: int | None, notes: Sequence[str]
) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in cells.columns:
        # Text, not str: a class or model name with [brackets] is no markup.
        table.add_column(Text(name), justify="left" if _is_word(cells[name]) else "right")
    for row in cells.itertuples(index=False):
        table.add_row(*(Text(cell) for cell in row))
    sink = io.StringIO()
    Console(file=sink, width=width or 10_000, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in sink.getvalue().splitlines()]
    body = "\n".join(line for line in lines if line)
    hidden = num_rows - len(cells)
    more = [f"… {hidden} more of {num_rows} {noun}"] if hidden else []
    return "\n".join([body, *more, *notes])


def _markdown(cells: pd.DataFrame, notes: Sequence[str]) -> str:
    lines = [list(cells.columns), [_rule(cells[name]) for name in cells.columns]]
    lines += [list(row) for row in cells.itertuples(index=False)]
    table = [f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in lines]
    return "\n".join([*table, *(f"\n{note}" for note in notes)])


def _rule(column: "pd.Series[Any]") -> str:
    return "---" if _is_word(column) else "---:"


def _is_word(column: "pd.Series[Any]") -> bool:
    return any(cell != BLANK and not cell[:1].isdigit() for cell in column)


def _accuracy(row: dict[str, Any], name: str, of: str = "") -> str:
    """`0.7589 [0.682, 0.822]` from the columns name + of, name_low and name_high."""
    if pd.isna(row[name + of]):
        return BLANK
    text = f"{row[name + of]:.4f}"
    if pd.isna(row[f"{name}_low"]):
        return text
    return f"{text} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _status(row: dict[str, Any]) -> str:
    kind = row.get("error_kind")
    return str(row["status"]) if pd.isna(kind) else f"{row['status']}: {kind}"


def number_text(value: Any, digits: int) -> str:
    """So many digits behind the point."""
    return BLANK if pd.isna(value) else f"{float(value):.{digits}f}"


def value_text(value: Any) -> str:
    """A field's value, or a mark."""
    if pd.isna(value):
        return BLANK
    return f"{value:g}" if isinstance(value, float) else str(value)
