"""From a diagnosis of the axes to charts: effects with intervals, interactions, importance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylab.analysis.axes import Axis
from raylab.analysis.evidence import SCORE, Evidence
from raylab.analysis.finding import Finding, signed, span
from raylab.analysis.measures import sign_of
from raylab.report.blocks import Block, Chart, Findings, Section
from raylab.report.figures import bars, ends, figure, label, line, rounded, rows, spans
from raylab.report.material import Sweep
from raylab.report.palette import ACCENT, BAND, FIELD, MUTED, REST, TIED

MAX_EFFECTS = 40
MAX_SAID = 6
NOTHING_POINTS = 0.3
MAX_STRETCH = 10.0
"""Of the largest gain: a wider interval leaves the chart, and does not flatten the rest."""
OF_LEVELS = (ACCENT, FIELD, TIED, MUTED, REST)


def axes(sweep: Sweep) -> Section:
    """What each axis changes, which depend on each other, and what the findings say of them."""
    if sweep.diagnosis is None or sweep.evidence is None:
        return Section("Axes", [])
    about = [finding for finding in sweep.diagnosis.findings if finding.topic == "axes"]
    blocks: list[Block] = []
    drawn = [effect for finding in about for effect in _against_best(finding)]
    if drawn:
        blocks.append(_effects(drawn[:MAX_EFFECTS]))
    by_name = {axis.name: axis for axis in sweep.evidence.axes}
    blocks += [
        _interaction(finding, sweep.evidence, by_name)
        for finding in about
        if "num_squares" in finding.evidence and by_name.keys() >= set(finding.evidence["axes"])
    ]
    shares = next((f for f in about if _is_importance(f)), None)
    if shares is not None:
        blocks.append(_importance(shares))
    return Section("What each axis does", [*blocks, Findings(about)])


@dataclass(frozen=True)
class _Lead:
    """By how much the best level of an axis leads another, in points."""

    axis: str
    best: str
    other: str
    value: float
    low: float
    high: float
    """NaN with `low` where one pair alone gives no interval."""
    num_pairs: int

    @property
    def colour(self) -> str:
        """By what its interval says."""
        if self.low >= -NOTHING_POINTS and self.high <= NOTHING_POINTS:
            return REST
        return ACCENT if self.low > 0 or self.high < 0 else TIED

    @property
    def text(self) -> str:
        """`+2.1 [1.5, 2.7]`, or `+2.1` alone."""
        gain = signed(self.value / 100)
        return gain if math.isnan(self.low) else f"{gain} {span(self.low / 100, self.high / 100)}"


def _against_best(finding: Finding) -> list[_Lead]:
    numbers = finding.evidence
    leads = []
    for effect in numbers.get("effects", ()) if "verdict" in numbers else ():
        ends = (effect["from"], effect["to"])
        best = numbers["best_level"]
        if best not in ends:
            continue
        sign = 100.0 if effect["to"] == best else -100.0
        low, high = sorted(sign * end for end in effect["interval"])
        other = ends[0] if effect["to"] == best else ends[1]
        value, pairs = sign * effect["effect"], int(effect["num_pairs"])
        leads.append(_Lead(numbers["axis"], best, other, value, low, high, pairs))
    return sorted(leads, key=lambda lead: -lead.value)


def _effects(leads: Sequence[_Lead]) -> Chart:
    texts = [f"{lead.axis}: {lead.best} over {lead.other}" for lead in leads]
    colours = [lead.colour for lead in leads]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [lead.value for lead in leads],
        "y": list(range(len(leads))),
        "marker": {"color": colours, "size": 9},
        "text": [label(text) for text in texts],
        "customdata": [lead.num_pairs for lead in leads],
        "hovertemplate": "%{text}<br>%{x:+.2f} points, %{customdata} pairs<extra></extra>",
    }
    far = MAX_STRETCH * max(NOTHING_POINTS, *(abs(lead.value) for lead in leads))
    all_ends = [0.0, *(min(max(v, -far), far) for x in leads for v in (x.low, x.value, x.high))]
    end = {"yref": "paper", "y0": 0, "y1": 1}
    band = {"type": "rect", "layer": "below", "fillcolor": BAND, "line": {"width": 0}}
    chart = figure(
        [*spans([x.low for x in leads], [x.high for x in leads], colours), dots],
        height=64 + 27 * len(leads),
        x={"title": "gain, points", "range": ends(all_ends)},
        y=rows(texts),
        shapes=[
            band | end | {"x0": -NOTHING_POINTS, "x1": NOTHING_POINTS},
            line(MUTED, x0=0, x1=0, **end),
        ],
    )
    said = [f"{text} {lead.text}" for text, lead in zip(texts, leads, strict=True)]
    caption = (
        "With its 95 % interval, over trials matched in all but this axis. Shaded: "
        f"±{NOTHING_POINTS} points, which nobody would notice."
    )
    keys = [("accent", "clear"), ("tied", "cannot be told yet"), ("rest", "no difference")]
    alt = f"Gains in points: {'; '.join(said[:MAX_SAID])}."
    return Chart(chart, "The best level over each other one", alt, caption, keys)


def _interaction(finding: Finding, evidence: Evidence, by_name: dict[str, Axis]) -> Chart:
    first, second = (by_name[name] for name in finding.evidence["axes"])
    table = (
        evidence.compared.groupby([first.codes.to_numpy(), second.codes.to_numpy()])[SCORE]
        .mean()
        .mul(100)
        .unstack()
    )
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": table.index.tolist(),
            "y": rounded(table[code]),
            "name": label(f"{second.name} {second.levels[int(str(code))]}", 28),
            "line": {"color": OF_LEVELS[k % len(OF_LEVELS)], "width": 2},
            "hovertemplate": "%{y:.2f}",
        }
        for k, code in enumerate(table.columns)
    ]
    ticks = {"tickvals": list(range(len(first.levels)))}
    chart = figure(
        traces,
        300,
        x=ticks | {"title": label(first.name), "ticktext": [label(v, 16) for v in first.levels]},
        y={"title": _title(evidence.judged_by)},
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    title = f"{first.name} depends on {second.name}"
    return Chart(chart, title, finding.sentence, is_half=True)


def _title(judged_by: str) -> str:
    if judged_by == "val_accuracy":
        return "accuracy, %"
    return f"{'−' if sign_of(judged_by) < 0 else ''}{judged_by}, points"


def _is_importance(finding: Finding) -> bool:
    numbers: list[Any] = list(finding.evidence.values())
    return bool(numbers) and all(isinstance(n, dict) and "share" in n for n in numbers)


def _importance(finding: Finding) -> Chart:
    names = list(finding.evidence)
    shares = [100 * float(finding.evidence[name]["share"]) for name in names]
    chart = figure(
        [bars(shares, hovertemplate="%{x:.1f} %<extra></extra>")],
        height=64 + 30 * len(names),
        x={"title": "share of the explained variance, %", "rangemode": "tozero"},
        y=rows(names),
        bargap=0.5,
    )
    return Chart(chart, "Importance, by functional ANOVA", finding.sentence)
