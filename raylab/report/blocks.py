"""What a report is made of: sections of charts, tables, pictures, findings and plain notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import plotly.graph_objects as go

from raylab.analysis.finding import Finding


@dataclass(frozen=True)
class Chart:
    """One chart with what it says in words."""

    kind: ClassVar[str] = "chart"
    figure: go.Figure
    title: str
    alt: str
    """What someone hears who does not see it."""
    caption: str = ""
    keys: Sequence[tuple[str, str]] = ()
    """What its colours mean: a role of the palette (accent, tied, rest, field) and its text."""
    is_half: bool = False
    """Stands beside its neighbour where the window is wide enough."""


@dataclass(frozen=True)
class Column:
    """A table's column."""

    name: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """Cells as text; numbers are sorted by what their text begins with."""

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    is_sortable: bool = False
    """With buttons to sort by, and a box to filter by."""
    notes: Sequence[str] = ()
    emphasis: Sequence[int] = ()
    """Rows that stand out."""
    is_half: bool = False


@dataclass(frozen=True)
class Picture:
    """A thumbnail and what is said of it."""

    uri: str
    """data:image/…; empty where the image cannot be reached."""
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Thumbnails side by side."""

    kind: ClassVar[str] = "gallery"
    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """The sentences of a diagnosis."""

    kind: ClassVar[str] = "findings"
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Note:
    """A paragraph, or text as it stands in a file."""

    kind: ClassVar[str] = "note"
    text: str
    is_source: bool = False
    title: str = ""
    """Of what can be unfolded; without it the text stands open."""


Block = Chart | Table | Gallery | Findings | Note


@dataclass(frozen=True)
class Section:
    """A headed part of the report; one without blocks is left out."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Answer:
    """What someone reads who has ten seconds."""

    winner: str
    """The config that won, by the fields in which the configs differ."""
    value: str
    """Its measure: `75.9 %`."""
    interval: str
    really: str
    """Whether it is really better, in a word or two: `Not shown`."""
    why: str
    """The sentence behind that."""
    then: Sequence[str]
    """What to do next."""
    warnings: Sequence[str] = ()
    """What makes results untrue."""
    notes: Sequence[str] = ()
    """What the locked test split said, where it was asked."""
