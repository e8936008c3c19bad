"""From a leaderboard frame to text: a table for eyes, or csv, json, markdown for programs."""

import io
import json
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raylab.results.leaderboard import differing_columns, ranked

Format = Literal["table", "csv", "json", "markdown"]

# A cell that was never measured.
BLANK = "–"


def render(
    frame: pd.DataFrame,
    format: Format = "table",
    top: int | None = None,
    metric: str = "val_accuracy",
    width: int | None = None,
) -> str:
    """The ranked leaderboard as text, no newline at its end.

    csv and json carry every column; table and markdown those in which the trials differ, and the
    measures that matter. `width`: columns of the terminal; without it no line is cut or broken.
    """
    board = ranked(frame, metric)
    shown = board if top is None else board.head(top)
    if format == "csv":
        return shown.to_csv(index=False).rstrip("\n")
    if format == "json":
        rows = json.loads(shown.to_json(orient="records", double_precision=15))
        return json.dumps(rows, ensure_ascii=False, indent=2)
    cells = _cells(shown, differing_columns(board), metric)
    if format == "markdown":
        return _markdown(cells)
    return _text(cells, len(board), width)


def _cells(board: pd.DataFrame, differing: list[str], metric: str) -> pd.DataFrame:
    """What eyes see of each trial, all text."""
    columns: dict[str, list[str]] = {"#": [str(rank) for rank in board["rank"]]}
    if board["sweep"].nunique() > 1 if "sweep" in board else False:
        columns["sweep"] = [str(name) for name in board["sweep"]]
    for name in differing:
        columns[name] = [_value(value) for value in board[name]]
    rows = [dict(zip(board.columns, row, strict=True)) for row in board.itertuples(index=False)]
    columns["val_accuracy [95 %]"] = [_accuracy(row) for row in rows]
    columns["macro_f1"] = [_number(row["val_macro_f1"], 3) for row in rows]
    if metric not in ("val_accuracy", "val_macro_f1", "seconds", *differing):
        columns[metric] = [_number(row[metric], 4) for row in rows]
    columns["epoch"] = [f"{_value(row['best_epoch'])}/{row['num_epochs']}" for row in rows]
    columns["seconds"] = [_number(row["seconds"], 1) for row in rows]
    columns["status"] = [_status(row) for row in rows]
    return pd.DataFrame(columns, dtype="object")


def _text(cells: pd.DataFrame, num_trials: int, width: int | None) -> str:
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
    hidden = num_trials - len(cells)
    return f"{body}\n… {hidden} more of {num_trials} trials" if hidden else body


def _markdown(cells: pd.DataFrame) -> str:
    lines = [list(cells.columns), [_rule(cells[name]) for name in cells.columns]]
    lines += [list(row) for row in cells.itertuples(index=False)]
    return "\n".join(
        f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in lines
    )


def _rule(column: "pd.Series[Any]") -> str:
    return "---" if _is_word(column) else "---:"


def _is_word(column: "pd.Series[Any]") -> bool:
    return any(cell != BLANK and not cell[:1].isdigit() for cell in column)


def _accuracy(row: dict[str, Any]) -> str:
    if pd.isna(row["val_accuracy"]):
        return BLANK
    text = f"{row['val_accuracy']:.4f}"
    if pd.isna(row["val_accuracy_low"]):
        return text
    return f"{text} [{row['val_accuracy_low']:.3f}, {row['val_accuracy_high']:.3f}]"


def _status(row: dict[str, Any]) -> str:
    kind = row.get("error_kind")
    return str(row["status"]) if pd.isna(kind) else f"{row['status']}: {kind}"


def _number(value: Any, digits: int) -> str:
    return BLANK if pd.isna(value) else f"{float(value):.{digits}f}"


def _value(value: Any) -> str:
    if pd.isna(value):
        return BLANK
    return f"{value:g}" if isinstance(value, float) else str(value)
