"""The door: verbs, help, exit codes. No logic; heavy libraries load when a verb needs them."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from raylab import __version__
from raylab.errors import Problem, RaylabError, Refused

app = typer.Typer(
    name="raylab",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Image-classification experiments fanned out over Ray, gathered into one Parquet "
        "leaderboard.\n\nraylab sweep grids/quickstart.yaml"
    ),
)

GridPath = Annotated[Path, typer.Argument(metavar="GRID.yaml", help="The sweep to run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any grid key, dotted; repeatable."),
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="SOURCE", help="Images, instead of the grid's.")
]
Results = Annotated[
    str | None,
    typer.Option("--results", metavar="DIR_OR_URI", help="Default: results/<name of the grid>."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Before any verb."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
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


@app.command()
def plan(
    grid: GridPath,
    settings: Settings = None,
    data: Data = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Say what `sweep` would do, touching nothing.

    raylab plan grids/models.yaml --data faces
    """
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.images.source import scan
        from raylab.results.directory import ResultsDirectory
        from raylab.sweep.plan import Plan

        wanted = read_grid(grid, overrides=settings or (), data=data)
        directory = ResultsDirectory(results or f"results/{wanted.name}")
        summary = Plan(wanted, scan(wanted.data)).summary(directory)
        typer.echo(json.dumps(summary, ensure_ascii=False) if as_json else plan_text(summary))


@app.command()
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


@app.command()
def toy(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    num: Annotated[int, typer.Option(min=70, help="How many faces.")] = 1400,
    wrong: Annotated[float, typer.Option(min=0, max=1, help="Share of wrong labels.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the built-in toy faces as a folder per class.

    raylab toy faces --num 2000 --wrong 0.05
    """
    with exit_codes():
        from raylab.images.toy import write_folder

        if directory.exists() and any(directory.iterdir()):
            text = "is not empty; give a new or empty folder"
            raise Refused([Problem(str(directory), text)], "the request", "nothing was written")
        write_folder(directory, num, wrong, seed)
        typer.echo(str(directory))


def metric_of(locations: list[str]) -> str:
    """The metric by which the first sweep was run; val_accuracy where its grid is not there."""
    from raylab.results.directory import ResultsDirectory

    try:
        return str(ResultsDirectory(locations[0]).grid().get("metric", "val_accuracy"))
    except FileNotFoundError:
        return "val_accuracy"


def plan_text(summary: dict[str, Any]) -> str:
    """The plan as a few lines for people."""
    classes = ", ".join(f"{name} {count:,}" for name, count in summary["classes"].items())
    lines = [
        f"{summary['name']}: {summary['trials']:,} trials, {summary['done']:,} already done",
        f"axes      {', '.join(summary['fields']) or 'none'}",
        f"images    {summary['images']:,} ({classes})",
        f"epochs    {summary['epochs']:,} in all",
        f"results   {summary['results']}",
    ]
    for variant in summary["variants"]:
        depth = "grey" if variant["channels"] == 1 else "RGB"
        size = f"{variant['image_size']} px {depth}, {variant['bytes'] / 2**20:,.1f} MiB"
        lines.append(f"variant   {variant['variant_id']}  {size}")
    return "\n".join(lines)


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


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors that are ours become one text on stderr and an exit code; a pipe may close early."""
    try:
        yield
    except RaylabError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does: with everything finished kept."""

    def interrupt(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """The `raylab` command."""
    app()
