"""`raylab sweep`: run a grid and gather its leaderboard."""

import sys
from typing import Annotated, Any, NoReturn

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import AsJson, Data, GridPath, Results, Settings
from raylab.commands.plan import plan
from raylab.errors import Problem, Refused


def sweep(
    grid: GridPath,
    settings: Settings = None,
    data: Data = None,
    results: Results = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            metavar="ADDRESS",
            help="auto or host:port of a Ray that runs; none = a local Ray.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan only: like raylab plan.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not reuse earlier results.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that failed earlier.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> None:
    """Run all trials of a grid and gather the leaderboard.

    raylab sweep grids/aug.yaml --data faces --set trial.epochs=5
    """
    if dry_run:
        return plan(grid, settings, data, results, as_json)
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.results.directory import ResultsDirectory
        from raylab.results.leaderboard import read
        from raylab.results.table import render

        wanted = read_grid(grid, overrides=settings or (), data=data)
        location = results or f"results/{wanted.name}"
        if address and address.startswith("http"):
            refuse_submission(address)
        from raylab.sweep.runner import Options, run_sweep

        with terminated_as_interrupt():
            outcomes = run_sweep(wanted, Options(location, address, fresh, retry_failed, quiet))
        if outcomes.records:
            frame = read([location])
            typer.echo(render(frame, "json" if as_json else "table", metric=wanted.metric))
        directory = ResultsDirectory(location)
        tell_failures(outcomes.records, directory)
        if outcomes.interrupted:
            typer.echo("interrupted; the same command goes on from here", err=True)
        typer.echo(directory.path_of("leaderboard.parquet"), err=True)
        sys.exit(outcomes.exit_code)


def tell_failures(records: tuple[Any, ...], directory: Any) -> None:
    """Failed trials grouped by cause on stderr, with one log of each."""
    by_cause: dict[str, list[Any]] = {}
    for record in records:
        if record.status == "failed":
            by_cause.setdefault(record.error_kind or "unknown", []).append(record)
    for cause, failed in sorted(by_cause.items()):
        first = failed[0]
        log = directory.log_path(first.trial_id)
        typer.echo(f"{len(failed)} failed: {cause}: {first.error}  (log: {log})", err=True)


def refuse_submission(address: str) -> NoReturn:
    """Submission as a Ray job is not there yet, and says so."""
    text = "submitting as a Ray job is not built yet; run raylab on the head with --address auto"
    raise Refused([Problem(f"--address {address}", text)], "the options")
