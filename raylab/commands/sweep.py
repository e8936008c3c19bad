"""`raylab sweep`: run a grid and gather its leaderboard."""

import sys
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import Address, AsJson, Data, GridPath, Quiet, Results, Settings
from raylab.commands.plan import plan
from raylab.errors import Problem, Refused


def sweep(
    grid: GridPath,
    settings: Settings = None,
    data: Data = None,
    results: Results = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan only: like raylab plan.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not reuse earlier results.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that failed earlier.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="URL",
            envvar="RAYLAB_NOTIFY",
            help="A webhook that hears when the sweep ends, is refused or gives up.",
        ),
    ] = None,
) -> None:
    """Run all trials of a grid and gather the leaderboard.

    raylab sweep grids/aug.yaml --data faces --set trial.epochs=5
    """
    if dry_run:
        return plan(grid, settings, data, results, as_json)
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.events.notify import notified

        with notified(notify, lambda text: typer.echo(text, err=True)) as news:
            wanted = read_grid(grid, overrides=settings or (), data=data)
            location = results or f"results/{wanted.name}"
            news.concerns(wanted.name, location)
            if address and address.startswith("http"):
                code = submit(wanted, location, address, fresh, retry_failed, as_json, quiet)
                news.ended(f"exit code {code}")
            else:
                code = run(wanted, location, address, fresh, retry_failed, as_json, quiet, news)
        sys.exit(code)


def run(
    wanted: Any,
    location: str,
    address: str | None,
    fresh: bool,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
    news: Any,
) -> int:
    """The sweep on a Ray that is joined or started here; its exit code."""
    from raylab.analysis.board import show
    from raylab.results.directory import ResultsDirectory
    from raylab.sweep.runner import Options, run_sweep

    with terminated_as_interrupt():
        outcomes = run_sweep(wanted, Options(location, address, fresh, retry_failed, quiet))
    news.came_out(wanted.metric, outcomes.records, outcomes.interrupted, outcomes.advice)
    if outcomes.records:
        typer.echo(show([location], "json" if as_json else "table", metric=wanted.metric))
    elif as_json:
        typer.echo("[]")
    directory = ResultsDirectory(location)
    tell_failures(outcomes.records, directory)
    if outcomes.advice:
        typer.echo(outcomes.advice, err=True)
    if outcomes.interrupted:
        typer.echo("interrupted; the same command goes on from here", err=True)
    typer.echo(directory.path_of("leaderboard.parquet"), err=True)
    return outcomes.exit_code


def tell_failures(records: tuple[Any, ...], directory: Any) -> None:
    """Failed trials grouped by cause on stderr, with one log of each."""
    by_cause: dict[tuple[str, str], list[Any]] = {}
    for record in records:
        if record.status == "failed":
            by_cause.setdefault(record.cause, []).append(record)
    for (kind, _), failed in sorted(by_cause.items(), key=lambda item: (-len(item[1]), item[0])):
        first = failed[0]
        log = directory.log_path(first.trial_id)
        typer.echo(f"{len(failed)} failed: {kind}: {first.error}  (log: {log})", err=True)


def submit(
    wanted: Any,
    location: str,
    address: str,
    fresh: bool,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """The sweep as a Ray job of another cluster; its exit code."""
    if find_spec("aiohttp") is None:
        text = "submission needs ray[default]; pip install 'raylab[cluster]'"
        raise Refused([Problem(f"--address {address}", text)], "the options")
    from raylab.analysis.board import show
    from raylab.remote.submit import submit_sweep
    from raylab.results.directory import ResultsDirectory

    given = {"--fresh": fresh, "--retry-failed": retry_failed, "--quiet": quiet}
    flags = [flag for flag, is_given in given.items() if is_given]
    with terminated_as_interrupt():
        code = submit_sweep(wanted, location, address, flags)
    directory = ResultsDirectory(location)
    if directory.records():
        typer.echo(show([location], "json" if as_json else "table", metric=wanted.metric))
        typer.echo(directory.path_of("leaderboard.parquet"), err=True)
    elif as_json:
        typer.echo("[]")
    return code


def refuse_submission(address: str) -> NoReturn:
    """Only `sweep` is submitted as a Ray job; the other verbs say what to do instead."""
    text = "only sweep is submitted as a Ray job; run this on the head with --address auto"
    raise Refused([Problem(f"--address {address}", text)], "the options")
