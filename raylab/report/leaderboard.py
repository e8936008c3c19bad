"""From ranked families, or trials, to the table that can be sorted and filtered."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from raylab.report.blocks import Column, Section, Table
from raylab.report.material import Part
from raylab.report.wording import interval, is_number, percent, rows_of
from raylab.results.table import number_text, value_text

MAX_ROWS = 2_000
"""More rows than anyone scrolls would make the file heavy; the Parquet file has them all."""


def leaderboard(part: Part) -> Section:
    """Families, the best first, the ones that may be the best standing out."""
    board = part.families.head(MAX_ROWS)
    columns = _columns(part)
    rows = rows_of(board)
    hidden = len(part.families) - len(board)
    notes = list(part.comparison.notes)
    if hidden:
        notes.append(f"{hidden:,} more are in leaderboard.parquet only")
    table = Table(
        title="Leaderboard",
        columns=[Column(name, is_numeric) for name, is_numeric, _ in columns],
        rows=[[cell(row) for _, _, cell in columns] for row in rows],
        is_sortable=True,
        notes=notes,
        emphasis=[i for i, row in enumerate(rows) if row["tied"] == "yes"],
    )
    return Section("Leaderboard", [table])


def _columns(part: Part) -> list[tuple[str, bool, Any]]:
    """Per column its name, whether it holds numbers, and what makes its cell of a row."""
    families = part.families
    has_several = bool((families["num_trials"] > 1).any())
    columns: list[tuple[str, bool, Any]] = [("#", True, lambda row: str(row["rank"]))]
    if len(part.sweeps) > 1:
        columns.append(("sweep", False, lambda row: str(row["sweep"])))
    columns += [(name, is_number(families[name]), partial(_field, name)) for name in part.fields]
    mean = "mean accuracy, %" if has_several else "accuracy, %"
    columns.append((mean, True, lambda row: percent(row["family_mean"], 2).removesuffix(" %")))
    columns.append(("95 % interval", True, _bare_interval))
    if families["tied"].notna().any():
        columns.append(("tied", False, lambda row: value_text(row["tied"])))
    if has_several:
        columns.append(("std", True, lambda row: number_text(row["family_std"], 4)))
        columns.append(("seeds", True, lambda row: str(row["num_seeds"])))
    if (families["num_folds"] > 1).any():
        columns.append(("folds", True, lambda row: str(row["num_folds"])))
    columns.append(("macro F1", True, lambda row: number_text(row["val_macro_f1"], 3)))
    if part.metric not in ("val_accuracy", "val_macro_f1", "seconds", *part.fields):
        columns.append((part.metric, True, lambda row: number_text(row[part.metric], 4)))
    columns.append(("seconds", True, lambda row: number_text(row["seconds"], 1)))
    columns.append(("status", False, lambda row: str(row["status"])))
    columns.append(("family", False, lambda row: str(row["family_id"])))
    return columns


def _field(name: str, row: dict[str, Any]) -> str:
    return value_text(row[name])


def _bare_interval(row: dict[str, Any]) -> str:
    return interval(row["family_low"], row["family_high"]).removesuffix(" %")


def short_rows(part: Part, num: int) -> tuple[Sequence[str], list[list[str]]]:
    """Names and cells of the best `num` families, for markdown."""
    columns = [column for column in _columns(part) if column[0] != "family"]
    rows = rows_of(part.families.head(num))
    return [name for name, _, _ in columns], [[cell(row) for _, _, cell in columns] for row in rows]
