"""From families to parallel coordinates: a line per config through its fields to its accuracy.

Drawn as plain lines: plotly's own parallel coordinates need WebGL, which not every viewer has, and
show no few lines in front of many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from raylab.report.blocks import Chart, Section
from raylab.report.figures import figure, label
from raylab.report.material import Part
from raylab.report.palette import ACCENT, FAINT, MUTED, REST, RULE, TIED, TIED_KEY, WINNER
from raylab.report.wording import count, is_number
from raylab.results.table import value_text

NUM_COLOURED = 20
NUM_GREY = 250
MAX_AXES = 8
MAX_TICKS = 12
SPREAD = 0.15  # of the distance of two levels: lines through one level stand apart a little
Floats = npt.NDArray[np.float64]
AROUND: Floats = np.array([0, 1, -1, 2, -2, 3, -3]) / 3
"""Where the first lines pass a level, the winner through its middle."""


@dataclass(frozen=True)
class _Scale:
    """One vertical axis."""

    name: str
    places: Floats
    """(F,) per family, 0 at the bottom to 1 at the top; NaN where it has no value."""
    ticks: tuple[tuple[float, str], ...]


def parallel(part: Part) -> Section:
    """The fields that differ, and the accuracy at the right."""
    families = part.families[part.families["family_mean"].notna()].reset_index(drop=True)
    if len(part.fields) < 2 or len(families) < 3:
        return Section("Parallel coordinates", [])
    scales = [_scale(name, families[name]) for name in part.fields[: MAX_AXES - 1]]
    scales.append(_numeric("accuracy, %", 100 * families["family_mean"].astype(float)))
    rest = list(range(len(families)))[NUM_COLOURED:]
    rest = rest[:: -(-len(rest) // NUM_GREY)] if rest else []
    traces = [_grey(scales, rest)] if rest else []
    names = [part.names[str(family_id)] for family_id in families["family_id"][:NUM_COLOURED]]
    traces += [_line(scales, row, names[row], families) for row in reversed(range(len(names)))]
    chart = figure(
        traces,
        380,
        x={
            "tickvals": list(range(len(scales))),
            "ticktext": [label(scale.name, 18) for scale in scales],
            "range": [-0.35, len(scales) - 0.85],
            "side": "top",
            "showgrid": False,
            "showline": False,
            "tickfont": {"color": MUTED, "size": 12},
        },
        y={"visible": False, "range": [-0.06, 1.06]},
        shapes=[_rail(i) for i in range(len(scales))],
        annotations=[_tick(i, *tick) for i, scale in enumerate(scales) for tick in scale.ticks],
    )
    num = count(len(families), "config")
    alt = f"A line per config through {', '.join(part.fields)} to its accuracy, {num}."
    keys = [WINNER, TIED_KEY, ("rest", "the rest")]
    hidden = len(families) - NUM_COLOURED - len(rest)
    caption = f"{hidden:,} of the rest are not drawn." if hidden > 0 else ""
    return Section("Parallel coordinates", [Chart(chart, "", alt, caption, keys)])


def _scale(name: str, column: "pd.Series[Any]") -> _Scale:
    if is_number(column) and column.nunique() > MAX_TICKS:
        return _numeric(name, column.astype(float))
    codes, levels = pd.factorize(column, sort=is_number(column), use_na_sentinel=False)
    top = max(len(levels) - 1, 1)
    shift = SPREAD * AROUND[np.arange(len(column)) % len(AROUND)] / max(len(levels), 3)
    step = -(-len(levels) // MAX_TICKS)
    ticks = tuple((i / top, value_text(level)) for i, level in enumerate(levels) if i % step == 0)
    return _Scale(name, codes / top + shift, ticks)


def _numeric(name: str, column: "pd.Series[float]") -> _Scale:
    """Over its range, by its logarithm where the values lie evenly on that."""
    low, high, middle = float(column.min()), float(column.max()), float(column.median())
    is_even = abs(middle - (low + high) / 2) < abs(middle - math.sqrt(max(low * high, 0)))
    if low > 0 and high / low >= 10 and not is_even:
        places, ends = np.log(column.to_numpy(float)), (math.log(low), math.log(high))
        middle = math.sqrt(low * high)
    else:
        places, ends = column.to_numpy(float), (low, high)
        middle = (low + high) / 2
    width = ends[1] - ends[0] or 1.0
    ticks = ((0.0, f"{low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{high:.3g}"))
    return _Scale(name, (places - ends[0]) / width, ticks if high > low else ticks[:1])


def _line(scales: Sequence[_Scale], row: int, text: str, families: pd.DataFrame) -> dict[str, Any]:
    is_tied = families["tied"][row] == "yes"
    colour = ACCENT if row == 0 else TIED if is_tied else REST
    accuracy = 100 * float(families["family_mean"][row])
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(len(scales))),
        "y": [_place(scale, row) for scale in scales],
        "line": {"color": colour, "width": 3 if row == 0 else 1.5},
        "meta": f"{label(text)}<br>{accuracy:.2f} %",
        "hovertemplate": "%{meta}<extra></extra>",
    }


def _grey(scales: Sequence[_Scale], rows: Sequence[int]) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    for row in rows:
        x += [*range(len(scales)), None]
        y += [*(_place(scale, row) for scale in scales), None]
    grey = {"color": FAINT, "width": 0.8}
    base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    return base | {"x": x, "y": y, "line": grey, "opacity": 0.45}


def _place(scale: _Scale, row: int) -> float | None:
    place = float(scale.places[row])
    return None if math.isnan(place) else round(place, 4)


def _rail(i: int) -> dict[str, Any]:
    rail = {"type": "line", "layer": "below", "line": {"color": RULE, "width": 1.5}}
    return rail | {"x0": i, "x1": i, "y0": 0, "y1": 1}


def _tick(i: int, place: float, text: str) -> dict[str, Any]:
    font = {"size": 11, "color": MUTED}
    side = {"xanchor": "right", "yanchor": "middle", "xshift": -5, "showarrow": False}
    return side | {"x": i, "y": place, "text": label(text, 16), "font": font}
