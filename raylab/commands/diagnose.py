"""`raylab diagnose`: why the accuracy stops where it does."""

import json
import textwrap
from typing import Annotated, Any

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import AsJson

MARKS = {"note": " ", "warning": "!", "problem": "✗"}


def diagnose(
    results: Annotated[str, typer.Argument(metavar="RESULTS")], as_json: AsJson = False
) -> None:
    """Say why the accuracy stops where it does; write suspects.parquet, next.yaml if more is open.

    raylab diagnose results/aug
    """
    with exit_codes():
        from raylab.analysis.diagnose import diagnose_results
        from raylab.results.directory import ResultsDirectory

        directory = ResultsDirectory(results)
        found = diagnose_results(directory)
        if as_json:
            answer = [finding.to_json() for finding in found.findings]
            typer.echo(json.dumps(answer, ensure_ascii=False))
        else:
            typer.echo(text_of(found.findings))
        if found.suspects is not None:
            count = len(found.suspects)
            typer.echo(f"{count:,} suspects: {directory.path_of('suspects.parquet')}", err=True)
        if found.next is not None:
            typer.echo(f"next grid: {directory.path_of('next.yaml')}", err=True)


def text_of(findings: tuple[Any, ...]) -> str:
    """A topic per paragraph, `!` before what costs accuracy, `✗` before what makes it untrue."""
    lines, topic = [], None
    for finding in findings:
        head = finding.topic if finding.topic != topic else ""
        topic = finding.topic
        mark = MARKS[finding.severity]
        sentence = finding.sentence
        if finding.confidence == "low":
            sentence += " (low confidence)"
        first = f"{head:<8}{mark} "
        lines += textwrap.wrap(sentence, 100, initial_indent=first, subsequent_indent=" " * 10)
    return "\n".join(lines)
