"""From stored predictions to confusion and recall per class, of the winner and of the field."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import score_interval
from raylab.analysis.predictions import TrialPredictions
from raylab.report.blocks import Block, Chart, Column, Section, Table
from raylab.report.figures import figure, label, rounded, rows, scale, spans
from raylab.report.material import Part
from raylab.report.palette import ACCENT, FIELD, INK, WINNER
from raylab.report.wording import count, interval, percent

MAX_TEXT_CLASSES = 10
MAX_NAME = 20
Floats = npt.NDArray[np.float64]


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
    counts = confusion(trials)
    own = shares(counts)
    blocks: list[Block] = [_heatmap(own, names, "Confusion of the winner")]
    field = None
    if len(others) > 1:
        field = np.array([shares(confusion(family)) for family in others])
        median = np.median(field, axis=0)
        title = f"Confusion of the field (median of {len(others):,} configs)"
        blocks.append(_heatmap(median, names, title))
    blocks.append(_recall(own, counts, field, names, len(trials)))
    blocks.append(_recall_table(own, counts, field, names, len(trials)))
    return Section("Classes", blocks)


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


def _intervals(
    own: Floats, counts: npt.NDArray[np.int64], num_trials: int
) -> tuple[Floats, Floats, Floats]:
    """Recall per class with its 95 % interval; trials saw the same images, which count once."""
    recall = np.diag(own)
    known = ~np.isnan(recall)
    images = np.maximum(counts.sum(axis=1) / num_trials, 1)
    low, high = score_interval(np.where(known, recall, 0.5), images, np.inf)
    return recall, np.where(known, low, np.nan), np.where(known, high, np.nan)


def _recall(
    own: Floats,
    counts: npt.NDArray[np.int64],
    field: Floats | None,
    names: Sequence[str],
    num_trials: int,
) -> Chart:
    recall, low, high = _intervals(own, counts, num_trials)
    traces = spans(list(100 * low), list(100 * high), [ACCENT] * len(names))
    rows_y = list(range(len(names)))
    dot = {"type": "scatter", "mode": "markers", "y": rows_y, "hovertemplate": "%{x:.1f} %"}
    mark: dict[str, Any] = {"color": ACCENT, "size": 9}
    traces.append(dot | {"x": rounded(100 * recall), "name": "winner", "marker": mark})
    if field is not None:
        mark = {"color": FIELD, "size": 9, "symbol": "diamond-open", "line": {"width": 2}}
        x = rounded(100 * _median_recall(field))
        traces.append(dot | {"x": x, "name": "field", "marker": mark})
    chart = figure(
        traces,
        64 + 28 * len(names),
        x={"title": "recall, %", "range": [-2, 102]},
        y=rows(names, MAX_NAME),
    )
    worst = int(np.nanargmin(recall))
    alt = f"Recall per class; the winner's worst is {names[worst]}, {percent(recall[worst])}."
    keys = [WINNER] if field is None else [WINNER, ("field", "the median of all configs")]
    return Chart(chart, "Recall per class", alt, keys=keys, is_half=True)


def _median_recall(field: Floats) -> Floats:
    """(K,) of the families' confusion shares (F, K, K)."""
    median: Floats = np.median(np.diagonal(field, axis1=1, axis2=2), axis=0)
    return median


def _recall_table(
    own: Floats,
    counts: npt.NDArray[np.int64],
    field: Floats | None,
    names: Sequence[str],
    num_trials: int,
) -> Table:
    recall, low, high = _intervals(own, counts, num_trials)
    called = counts.sum(axis=0)
    columns = [Column("class")]
    columns += [Column(name, True) for name in ("images", "recall", "interval", "precision")]
    if field is not None:
        columns.append(Column("field", True))
        median = _median_recall(field)
    cells = []
    for k, name in enumerate(names):
        precision = counts[k, k] / called[k] if called[k] else np.nan
        images = f"{round(counts[k].sum() / num_trials):,}"
        row = [name, images, percent(recall[k]), interval(low[k], high[k]), percent(precision)]
        cells.append(row if field is None else [*row, percent(median[k])])
    note = (
        f"The winner's {count(num_trials, 'trial')} together, on validation images; 95 % "
        "intervals; field: the median recall of all configs."
    )
    return Table("The same in numbers", columns, cells, notes=[note], is_half=True)
