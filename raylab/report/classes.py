"""From stored predictions to confusion and recall per class, of the winner and of the field.

K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import score_interval
from raylab.analysis.predictions import TrialPredictions, times_validated
from raylab.report.blocks import Block, Chart, Column, Section, Table
from raylab.report.figures import figure, label, rounded, rows, scale, spans
from raylab.report.material import Part
from raylab.report.palette import ACCENT, FIELD, INK, WINNER
from raylab.report.wording import count, interval, percent

MAX_TEXT_CLASSES = 10
MAX_NAME = 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recall:
    """Per class, (K,), shares 0..1; NaN where a class has no image."""

    images: Floats
    """Validated, one that several seeds validated counted once."""
    winner: Floats
    low: Floats
    """95 % interval of `winner`."""
    high: Floats
    precision: Floats
    """Of the winner."""
    field: Floats | None
    """The median over the families; None where there are no two."""


def confusion(trials: Sequence[TrialPredictions]) -> npt.NDArray[np.int64]:
    """(K, K) counts over all trials, rows = label, columns = best guess."""
    num = len(trials[0].classes)
    total = np.zeros((num, num), dtype=np.int64)
    for trial in trials:
        flat = trial.labels * num + trial.probs.argmax(axis=1)
        total += np.bincount(flat, minlength=num * num).reshape(num, num)
    return total


def shares(counts: npt.NDArray[np.int64]) -> Floats:
    """(K, K) rows that add up to 1; NaN in the row of a class without images."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def classes(part: Part) -> Section:
    """Who is taken for whom."""
    trials = part.winner_predictions
    if not trials:
        return Section("Classes", [])
    names = trials[0].classes
    others = [t for t in part.field_predictions.values() if t[0].classes == names]
    blocks: list[Block] = [_heatmap(shares(confusion(trials)), names, "Confusion of the winner")]
    median = None
    if len(others) > 1:
        median = np.median([shares(confusion(family)) for family in others], axis=0)
        title = f"Confusion of the field (median of {len(others):,} configs)"
        blocks.append(_heatmap(median, names, title))
    found = recall(trials, None if median is None else np.diag(median))
    return Section("Classes", [*blocks, _chart(found, names), _table(found, names, len(trials))])


def recall(trials: Sequence[TrialPredictions], field: Floats | None = None) -> Recall:
    """Of the winner's trials; field: see `Recall`."""
    counts = confusion(trials)
    images = counts.sum(axis=1) / times_validated(trials)
    own, called = np.diag(shares(counts)), counts.sum(axis=0)
    known = ~np.isnan(own)
    low, high = score_interval(np.where(known, own, 0.5), np.maximum(images, 1), np.inf)
    return Recall(
        images=images,
        winner=own,
        low=np.where(known, low, np.nan),
        high=np.where(known, high, np.nan),
        precision=np.where(called > 0, np.diag(counts) / np.maximum(called, 1), np.nan),
        field=field,
    )


def _heatmap(table: Floats, names: Sequence[str], title: str) -> Chart:
    ticks = {
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, 14) for name in names],
        "showgrid": False,
    }
    cells = {
        "type": "heatmap",
        "z": [rounded(row, 1) for row in 100 * table],
        "zmin": 0,
        "zmax": 100,
        "colorscale": scale(),
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "textfont": {"color": INK},
        "texttemplate": "%{z:.0f}" if len(names) <= MAX_TEXT_CLASSES else "",
        "hovertemplate": "%{y} called %{x}: %{z:.1f} %<extra></extra>",
    }
    is_crowded = len(names) > 4 or max(map(len, names)) > 6
    chart = figure(
        [cells],
        120 + 34 * min(len(names), 14),
        x=ticks | {"title": "called", "tickangle": -40 if is_crowded else 0},
        y=ticks | {"title": "label", "autorange": "reversed"},
    )
    off = np.where(np.eye(len(names), dtype=bool), -1.0, np.nan_to_num(table))
    a, b = divmod(int(off.argmax()), len(names))
    alt = f"{title}: the largest mistake is {names[a]} called {names[b]}, {percent(off[a, b])}."
    return Chart(chart, title, alt, "Per cent of the images of a label.", is_half=True)


def _chart(found: Recall, names: Sequence[str]) -> Chart:
    traces = spans(list(100 * found.low), list(100 * found.high), [ACCENT] * len(names))
    rows_y = list(range(len(names)))
    dot = {"type": "scatter", "mode": "markers", "y": rows_y, "hovertemplate": "%{x:.1f} %"}
    mark: dict[str, Any] = {"color": ACCENT, "size": 9}
    traces.append(dot | {"x": rounded(100 * found.winner), "name": "winner", "marker": mark})
    keys = [WINNER]
    if found.field is not None:
        mark = {"color": FIELD, "size": 9, "symbol": "diamond-open", "line": {"width": 2}}
        traces.append(dot | {"x": rounded(100 * found.field), "name": "field", "marker": mark})
        keys.append(("field", "the median of all configs"))
    chart = figure(
        traces,
        64 + 28 * len(names),
        x={"title": "recall, %", "range": [-2, 102]},
        y=rows(names, MAX_NAME),
    )
    worst = int(np.nanargmin(found.winner))
    alt = f"Recall per class; the winner's worst is {names[worst]}, {percent(found.winner[worst])}."
    return Chart(chart, "Recall per class", alt, keys=keys, is_half=True)


def _table(found: Recall, names: Sequence[str], num_trials: int) -> Table:
    columns = [Column("class")]
    columns += [Column(name, True) for name in ("images", "recall", "interval", "precision")]
    cells = [
        [
            name,
            f"{round(found.images[k]):,}",
            percent(found.winner[k]),
            interval(found.low[k], found.high[k]),
            percent(found.precision[k]),
        ]
        for k, name in enumerate(names)
    ]
    if found.field is not None:
        columns.append(Column("field", True))
        cells = [[*row, percent(median)] for row, median in zip(cells, found.field, strict=True)]
    note = (
        f"The winner's {count(num_trials, 'trial')} together, on validation images; 95 % "
        "intervals; field: the median recall of all configs."
    )
    return Table("The same in numbers", columns, cells, notes=[note], is_half=True)
