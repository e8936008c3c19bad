"""From the parts of a report to one HTML file that fetches nothing."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raylab import __version__
from raylab.report.answer import answer, forest
from raylab.report.axes import axes
from raylab.report.blocks import Answer, Chart, Findings, Section
from raylab.report.calibration import calibration
from raylab.report.classes import classes
from raylab.report.cost import cost
from raylab.report.curves import curves
from raylab.report.failures import failures
from raylab.report.figures import json_of
from raylab.report.images import images
from raylab.report.ladder import ladder
from raylab.report.leaderboard import leaderboard
from raylab.report.material import Part, Sweep
from raylab.report.palette import DARK, PALETTE
from raylab.report.parallel import parallel
from raylab.report.provenance import provenance
from raylab.report.wording import count, duration

SHOWN_ROWS = 100
"""Rows of a table that are laid out before someone asks for all of them."""


@dataclass(frozen=True)
class Chapter:
    """One part of the data as it stands on the page."""

    title: str
    subtitle: str
    answer: Answer
    forest: Chart | None
    sections: Sequence[Section]


def page(parts: Sequence[Part], now: datetime | None = None) -> str:
    """The report as HTML. `now`: what it says of its own time; None = the clock."""
    environment = Environment(
        loader=PackageLoader("raylab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda chart: Markup(json_of(chart.figure))
    own = (files("raylab.report") / "templates" / "report.js").read_text("utf-8")
    scripts = {"plotly": get_plotlyjs(), "own": own}
    names = [sweep.name for part in parts for sweep in part.sweeps]
    return environment.get_template("report.html").render(
        title=", ".join(dict.fromkeys(names)),
        chapters=[_chapter(part) for part in parts],
        written=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        palette=PALETTE,
        dark=DARK,
        shown_rows=SHOWN_ROWS,
        style=Markup((files("raylab.report") / "templates" / "style.css").read_text("utf-8")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        hashes=[_hash(text) for text in scripts.values()],
    )


def summary(part: Part) -> str:
    """How much there is: `30 trials: 28 complete, 2 failed · 3 h 0 min of training`."""
    statuses = part.trials["status"].value_counts()
    told = ", ".join(f"{num:,} {status}" for status, num in statuses.items())
    trials = count(len(part.trials), "trial")
    spent = duration(float(part.trials["seconds"].sum()))
    left = sum(sweep.num_missing for sweep in part.sweeps)
    more = f", {left:,} to come" if left else ""
    return f"{trials}: {told}{more} · {spent} of training"


def _chapter(part: Part) -> Chapter:
    return Chapter(
        title=", ".join(sweep.name for sweep in part.sweeps),
        subtitle=summary(part),
        answer=answer(part),
        forest=forest(part),
        sections=[section for section in _sections(part) if section.blocks],
    )


def _sections(part: Part) -> Iterator[Section]:
    yield from _per_sweep(part, [_findings(sweep) for sweep in part.sweeps])
    yield leaderboard(part)
    yield curves(part)
    yield from _per_sweep(part, [axes(sweep) for sweep in part.sweeps])
    yield parallel(part)
    yield classes(part)
    yield calibration(part)
    yield from _per_sweep(part, [ladder(sweep) for sweep in part.sweeps])
    yield cost(part)
    yield from _per_sweep(part, [images(sweep) for sweep in part.sweeps])
    yield failures(part)
    yield provenance(part)


def _findings(sweep: Sweep) -> Section:
    """All but what stands with the axes, and the next grid, which stands in the answer."""
    if sweep.diagnosis is None:
        return Section("Findings", [])
    kept = [f for f in sweep.diagnosis.findings if f.topic not in ("axes", "next")]
    return Section("Why it stops there", [Findings(kept)])


def _per_sweep(part: Part, sections: Sequence[Section]) -> Iterator[Section]:
    """One section per sweep, which is named where there are several."""
    for sweep, section in zip(part.sweeps, sections, strict=True):
        is_alone = len(part.sweeps) == 1
        yield section if is_alone else replace(section, title=f"{section.title}: {sweep.name}")


def _hash(script: str) -> str:
    """What the page's Content-Security-Policy allows to run: these scripts, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
