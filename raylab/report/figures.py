"""From traces to figures of one look, with labels that cannot be markup, and JSON for a page."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from raylab.report.palette import ACCENT, INK, MUTED, PAPER, RULE, STEPS

FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Apple SD Gothic Neo', 'Malgun Gothic', "
    "'Noto Sans KR', 'Noto Sans CJK KR', NanumGothic, sans-serif"
)
MAX_LABEL = 44


def figure(
    traces: Sequence[Any],
    height: int,
    x: dict[str, Any] | None = None,
    y: dict[str, Any] | None = None,
    **layout: Any,
) -> go.Figure:
    """The traces in the house's look; x, y and layout as plotly takes them. height: px."""
    axis: dict[str, Any] = {
        "gridcolor": RULE,
        "linecolor": RULE,
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,  # a finger scrolls the page, not the chart
        "ticks": "",
        "tickfont": {"color": MUTED},
        "title": {"font": {"color": MUTED, "size": 12}, "standoff": 10},
    }
    base: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "hoverlabel": {
            "bgcolor": PAPER,
            "bordercolor": RULE,
            "font": {"color": INK},
            "align": "left",
        },
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": _merged(axis, x or {}),
        "yaxis": _merged(axis, y or {}),
    }
    return go.Figure(data=list(traces), layout=base | layout)


def label(text: object, max_chars: int = MAX_LABEL) -> str:
    """Text for a chart: short, and shown as it is, since plotly reads <b> and &lt; in labels."""
    whole = str(text)
    cut = whole if len(whole) <= max_chars else whole[: max_chars - 1] + "…"
    return html.escape(cut, quote=False)


def scale(steps: Sequence[str] = STEPS) -> list[list[Any]]:
    """plotly's colour scale through these colours, evenly."""
    return [[i / (len(steps) - 1), colour] for i, colour in enumerate(steps)]


def line(colour: str = RULE, **kwargs: Any) -> dict[str, Any]:
    """A straight line behind the data, as a plotly shape."""
    return {"type": "line", "layer": "below", "line": {"color": colour, "width": 1}, **kwargs}


def rows(names: Sequence[str], max_chars: int = MAX_LABEL) -> dict[str, Any]:
    """A vertical axis with a name per row, the first on top; row i lies at y = i."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, max_chars) for name in names],
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
    }


def spans(lows: Sequence[float], highs: Sequence[float], colours: Sequence[str]) -> list[Any]:
    """A bar per row from low to high; none where they are not known."""
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, high],
            "y": [i, i],
            "line": {"color": colours[i], "width": 2.5},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        for i, (low, high) in enumerate(zip(lows, highs, strict=True))
        if not math.isnan(low)
    ]


def bars(lengths: Sequence[float], **more: Any) -> dict[str, Any]:
    """A bar per row."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(lengths),
        "y": list(range(len(lengths))),
        "marker": {"color": ACCENT},
        **more,
    }


def ends(values: Iterable[float]) -> list[float]:
    """A range that leaves a little air around all of them."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min(known), max(known)
    air = 0.04 * (high - low) or 1.0
    return [low - air, high + air]


def rounded(values: Iterable[Any], digits: int = 2) -> list[float | None]:
    """Numbers as short as a pixel needs them; None, a gap, where there is none."""
    return [None if math.isnan(v) else round(v, digits) for v in map(float, values)]


def json_of(chart: go.Figure) -> str:
    """The figure as JSON that may stand in a <script>: no text in it can end that, or begin one."""
    text = str(chart.to_json(validate=False))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    title = own.get("title")
    if title is None:
        return base | own
    return base | own | {"title": base["title"] | {"text": title}}
