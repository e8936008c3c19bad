"""`raylab leaderboard`: the ranked trials of one or several sweeps."""

from typing import Annotated, Literal

import typer

from raylab.commands.exit_codes import exit_codes


def leaderboard(
    results: Annotated[list[str], typer.Argument(metavar="RESULTS...")],
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="What ranks.")] = None,
    output: Annotated[
        Literal["table", "csv", "json", "markdown"], typer.Option("--format", help="How.")
    ] = "table",
) -> None:
    """Print the ranked trials of one or several sweeps.

    raylab leaderboard results/aug results/models --top 10
    """
    with exit_codes():
        from raylab.results.leaderboard import read
        from raylab.results.table import render

        frame = read(results)
        typer.echo(render(frame, output, top=top, metric=by or metric_of(results)))


def metric_of(locations: list[str]) -> str:
    """The metric by which the first sweep was run; val_accuracy where its grid is not there."""
    from raylab.results.directory import ResultsDirectory

    try:
        return str(ResultsDirectory(locations[0]).grid().get("metric", "val_accuracy"))
    except FileNotFoundError:
        return "val_accuracy"
