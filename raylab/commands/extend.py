"""`raylab extend`: more epochs for a finished trial."""

import sys
from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import Address, AsJson, Data, Quiet, ResultsPlace
from raylab.commands.sweep import refuse_submission, tell_failures


def extend(
    results: ResultsPlace,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="A trial_id, or enough of its beginning.")
    ],
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="So many more.")],
    lr: Annotated[
        float | None,
        typer.Option(
            min=1e-12, max=100, help="Where the schedule begins again; default: the trial's lr."
        ),
    ] = None,
    data: Data = None,
    address: Address = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a finished trial's kept weights for more epochs, and compare both.

    raylab extend results/aug 3f2a --epochs 30 --lr 3e-4
    """
    with exit_codes():
        if address and address.startswith("http"):
            refuse_submission(address)
        from raylab.after.extend import ExtendOptions, run_extend
        from raylab.analysis.board import show

        options = ExtendOptions(results, trial, epochs, lr, data, address, quiet)
        with terminated_as_interrupt():
            both, outcomes = run_extend(options)
        place = both.location
        typer.echo(show([place], "json" if as_json else "table", metric=both.metric()))
        tell_failures(outcomes.records, both)
        typer.echo(both.path_of("leaderboard.parquet"), err=True)
        sys.exit(outcomes.exit_code)
