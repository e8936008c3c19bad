"""`raylab leaderboard`: the ranked trials or families of one or several sweeps."""

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
    families: Annotated[
        bool | None,
        typer.Option(
            "--families/--trials",
            help="Rows are configs over their seeds and folds, or single trials.  "
            "[default: families where one has several trials; csv and json: trials]",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="K",
            help="Instead, the best weighted mean of up to K trials, and its honest gain.",
        ),
    ] = None,
) -> None:
    """Print the ranked trials or families of one or several sweeps, and which may be the best.

    raylab leaderboard results/aug results/models --top 10
    """
    with exit_codes():
        if ensemble is not None:
            from raylab.analysis.ensemble import show_ensemble

            typer.echo(show_ensemble(results, ensemble, output))
            return
        from raylab.analysis.board import show
        from raylab.results.directory import ResultsDirectory

        metric = by or ResultsDirectory(results[0]).metric()  # that of the first sweep
        typer.echo(show(results, output, top, metric, families))
