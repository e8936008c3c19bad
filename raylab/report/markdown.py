"""From the parts of a report to markdown for a pull request: answer, table, findings, failures."""

import re
from collections.abc import Iterator, Sequence

from raylab.report.answer import answer
from raylab.report.failures import causes
from raylab.report.leaderboard import short_rows
from raylab.report.material import Part
from raylab.report.page import summary
from raylab.report.wording import count

MAX_ROWS = 20
MARKS = {"problem": "**✗** ", "warning": "**!** ", "note": ""}
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>|~#@])")


def markdown(parts: Sequence[Part]) -> str:
    """The report as GitHub's markdown, no newline at its end."""
    return "\n".join(line for part in parts for line in _part(part)).rstrip("\n")


def plain(text: object) -> str:
    """Text as it is: nothing in it becomes markup, a mention, or another table cell."""
    return _ACTIVE.sub(r"\\\1", " ".join(str(text).split()))


def _part(part: Part) -> Iterator[str]:
    found = answer(part)
    yield f"## {plain(', '.join(sweep.name for sweep in part.sweeps))}"
    yield ""
    yield f"{plain(summary(part))} · data `{part.data_fingerprint}`"
    yield ""
    between = f" ({found.interval})" if found.interval else ""
    yield f"**{plain(found.winner)}: {plain(found.value)}**{between}"
    yield ""
    yield f"Really better? **{found.really}.** {plain(found.why)}"
    yield ""
    for note in found.notes:
        yield from [plain(note), ""]
    for warning in found.warnings:
        yield from [f"> **✗** {plain(warning)}", ""]
    yield from ["Next:", "", *(f"- {plain(step)}" for step in found.then), ""]
    yield from _table(part)
    for sweep in part.sweeps:
        if sweep.diagnosis is None:
            continue
        name = f" of {plain(sweep.name)}" if len(part.sweeps) > 1 else ""
        yield from [f"<details><summary>Findings{name}</summary>", ""]
        for finding in sweep.diagnosis.findings:
            yield f"- {MARKS[finding.severity]}{plain(finding.sentence)}"
        yield from ["", "</details>", ""]
    yield from _failures(part)


def _table(part: Part) -> Iterator[str]:
    names, rows = short_rows(part, MAX_ROWS)
    yield f"| {' | '.join(map(plain, names))} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(map(plain, row))} |"
    hidden = len(part.families) - len(rows)
    if hidden > 0:
        yield from ["", f"… and {hidden:,} more"]
    yield ""
    for note in part.comparison.notes:
        yield from [plain(note), ""]


def _failures(part: Part) -> Iterator[str]:
    found = causes(part)
    if found.empty:
        return
    yield from [f"**{count(int(found['num'].sum()), 'trial')} failed**", ""]
    for row in found.head(MAX_ROWS).itertuples():
        yield f"- {row.num} × {plain(row.error_kind)}: {plain(row.cause)} ({row.trial_id})"
    yield ""
