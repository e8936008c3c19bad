"""From a manifest's columns box_x, box_y, box_w, box_h to where the face of an image is."""

from collections.abc import Collection, Mapping
from typing import Any

COLUMNS = ("box_x", "box_y", "box_w", "box_h")

Box = tuple[float, float, float, float]
"""left, top, width, height in px of the upright image."""


def missing_columns(columns: Collection[str]) -> list[str]:
    """Those of COLUMNS that a manifest lacks which has others of them."""
    missing = [name for name in COLUMNS if name not in columns]
    return [] if len(missing) == len(COLUMNS) else missing


def read_box(row: Mapping[str, Any]) -> Box | None:
    """A row's box; None where all four cells are empty. ValueError where it is no box."""
    cells = {name: _text(row.get(name)) for name in COLUMNS}
    if not any(cells.values()):
        return None
    left, top, width, height = (_number(name, text) for name, text in cells.items())
    if width <= 0 or height <= 0:
        raise ValueError(f"box_w {width:g}, box_h {height:g}: both must be > 0 px")
    return left, top, width, height


def _text(cell: Any) -> str:
    """Nothing where a table of floats has a gap."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() == "nan" else text


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("inf")
    if abs(number) == float("inf"):
        raise ValueError(f"{name}: {text!r} is no number of pixels; fill all four or none")
    return number
