"""`raylab report`: one self-contained HTML file, or markdown for a pull request."""

from typing import Annotated, Literal

import typer

from raylab.commands.exit_codes import exit_codes


def report(
    results: Annotated[list[str], typer.Argument(metavar="RESULTS...")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where.  [default: report.html in the results, comparison.html in the first of "
            "several; markdown: stdout]",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Literal["html", "markdown"], typer.Option(help="What kind.")] = "html",
) -> None:
    """Write what came out as one HTML file that opens anywhere, without a network.

    raylab report results/aug
    """
    with exit_codes():
        from raylab.report.report import keep
        from raylab.report.report import report as made

        text = made(results, format)
        if format == "markdown" and output is None:
            typer.echo(text)
        else:
            typer.echo(keep(text, results, output))
