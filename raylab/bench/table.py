"""From rows to text: a table for eyes, its footnotes, and JSON for machines."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raylab.bench.row import Row

BLANK = "–"
COLUMNS = ("what", "measured", "baseline", "ratio", "limit", "")


def render(rows: Sequence[Row], machine: str) -> str:
    """The table, below it how each row was measured, above it the machine."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(Text(name), justify="left" if name in ("what", "") else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in cells(row)))
    sink = io.StringIO()
    Console(file=sink, width=10_000, color_system=None, legacy_windows=False).print(table)
    body = [line.rstrip() for line in sink.getvalue().splitlines()]
    notes = dict.fromkeys(f"{row.what}: {row.how}" for row in rows if row.how)
    return "\n".join([machine, *(line for line in body if line), "", *notes])


def cells(row: Row) -> tuple[str, ...]:
    """What eyes see of a row."""
    return (
        row.what,
        BLANK if row.value is None else f"{number(row.value)} {row.unit}",
        BLANK if row.baseline is None else f"{number(row.baseline)} {row.unit}",
        BLANK if row.ratio is None else number(row.ratio),
        BLANK if row.limit is None else str(row.limit),
        "" if row.verdict == "info" else row.verdict,
    )


def number(value: float) -> str:
    """Three digits that count: `0.0123`, `1.08`, `867`, `12,345`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_json(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    """One JSON value: the machine and the rows."""
    value = {"machine": dict(machine), "rows": [row.to_json() for row in rows]}
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
