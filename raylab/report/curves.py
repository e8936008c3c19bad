"""From epochs to learning curves: the best few in colour, the rest thinned to one grey trace."""

from typing import Any

import pandas as pd

from raylab.report.blocks import Chart, Section
from raylab.report.figures import figure, label, rounded
from raylab.report.material import Part
from raylab.report.palette import ACCENT, FAINT, FIELD, REST, TIED, TIED_KEY, WINNER
from raylab.report.wording import count, percent

NUM_COLOURED = 20
NUM_GREY = 150
MAX_POINTS = 200
"""Epochs of one curve that are drawn: a pixel shows no more."""
MAX_TICKS = 12
MEASURES = (("val_accuracy", "validation accuracy, %", 100.0), ("val_loss", "validation loss", 1.0))


def curves(part: Part) -> Section:
    """Validation accuracy and loss over the epochs."""
    epochs = part.epochs.sort_values(["trial_id", "epoch"])
    if epochs.empty:
        return Section("Learning curves", [])
    groups = {str(name): rows for name, rows in epochs.groupby("trial_id", sort=False)}
    ranked = [str(i) for i in part.trials["trial_id"].drop_duplicates() if i in groups]
    charts = [_chart(part, groups, ranked, *measure) for measure in MEASURES]
    return Section("Learning curves", charts)


def _chart(
    part: Part,
    groups: dict[str, pd.DataFrame],
    ranked: list[str],
    name: str,
    title: str,
    factor: float,
) -> Chart:
    families = part.trials.drop_duplicates("trial_id").set_index("trial_id")["family_id"]
    tied = set(part.families.loc[part.families["tied"] == "yes", "family_id"])
    best_family = None if part.winner is None else part.winner["family_id"]
    coloured, rest = _chosen(ranked, [i for i in ranked if families[i] == best_family])
    traces = [_grey([groups[i] for i in _thinned(rest)], name, factor)] if rest else []
    for trial_id in reversed(coloured):  # the best is drawn last, on top
        family_id = families[trial_id]
        is_best = family_id == best_family
        colour = ACCENT if is_best else TIED if family_id in tied else REST
        text = label(part.names[str(family_id)])
        traces.append(_trace(groups[trial_id], name, factor, text, colour, 2.5 if is_best else 1.3))
    if name == "val_accuracy":
        own = [groups[i] for i in coloured if families[i] == best_family]
        traces += [_training(rows) for rows in own]
    chart = figure(traces, 320, x=_epoch_axis(part), y={})
    end = groups[coloured[0]][name].dropna()
    is_known = best_family is not None and len(end)
    last = f"; the winner ends at {_value(float(end.iloc[-1]), factor)}" if is_known else ""
    what = title[:1].upper() + title[1:]
    alt = f"{what} over the epochs of {count(len(ranked), 'trial')}{last}."
    keys = [WINNER, TIED_KEY, ("rest", "the rest")]
    if factor > 1:
        keys.append(("field", "the winner on its training images"))
    num = len(_thinned(rest)) if rest else 0
    of = f"The best {len(coloured)} trials, and {num:,} of the other {len(rest):,}."
    caption = of if num < len(rest) else ""
    return Chart(chart, what, alt, caption, keys, is_half=True)


def _epoch_axis(part: Part) -> dict[str, Any]:
    """No half epochs between a few."""
    is_short = int(part.epochs["epoch"].max()) <= MAX_TICKS
    return {"title": "epoch"} | ({"dtick": 1} if is_short else {})


def _chosen(ranked: list[str], best: list[str]) -> tuple[list[str], list[str]]:
    """The trials in colour, the winner's in front, and the others."""
    order = [*best, *(i for i in ranked if i not in set(best))]
    return order[:NUM_COLOURED], order[NUM_COLOURED:]


def _thinned(trial_ids: list[str]) -> list[str]:
    return trial_ids[:: -(-len(trial_ids) // NUM_GREY)]


def _steps(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:: -(-len(rows) // MAX_POINTS)]


def _trace(
    rows: pd.DataFrame, name: str, factor: float, text: str, colour: str, width: float
) -> dict[str, Any]:
    drawn = _steps(rows)
    unit = " %" if factor > 1 else ""
    return {
        "type": "scatter",
        "mode": "lines" if len(drawn) > 1 else "markers",
        "x": drawn["epoch"].tolist(),
        "y": rounded(factor * drawn[name].astype(float), 4),
        "line": {"color": colour, "width": width},
        "marker": {"color": colour},
        "hovertemplate": f"%{{meta}}<br>epoch %{{x}}: %{{y:.4g}}{unit}<extra></extra>",
        "meta": text,
    }


def _training(rows: pd.DataFrame) -> dict[str, Any]:
    trace = _trace(rows, "train_accuracy", 100.0, "winner, training images", FIELD, 1.3)
    return trace | {"line": {"color": FIELD, "width": 1.3, "dash": "dot"}, "opacity": 0.8}


def _grey(curves: list[pd.DataFrame], name: str, factor: float) -> dict[str, Any]:
    """All of them as one trace, with a gap between two: a thousand traces would take seconds."""
    x: list[float | None] = []
    y: list[float | None] = []
    for rows in map(_steps, curves):
        x += [*rows["epoch"].tolist(), None]
        y += [*rounded(factor * rows[name].astype(float), 4), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": FAINT, "width": 1},
        "opacity": 0.6,
        "hoverinfo": "skip",
    }


def _value(value: float, factor: float) -> str:
    return percent(value) if factor > 1 else f"{value:.3f}"
