"""`raylab distill`: from a sweep's best models to a teacher for one."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import Address, AsJson, Data, Quiet, ResultsPlace
from raylab.commands.sweep import refuse_submission


def distill(
    results: ResultsPlace,
    top: Annotated[
        int, typer.Option(min=1, metavar="K", help="The K best kept models teach together.")
    ] = 3,
    data: Data = None,
    address: Address = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write what a sweep's best models together say of their training images, for one to learn.

    raylab distill results/aug --top 3
    """
    with exit_codes():
        if address and address.startswith("http"):
            refuse_submission(address)
        from raylab.after.distill import DistillOptions, run_distill

        with terminated_as_interrupt():
            taught = run_distill(DistillOptions(results, top, data, address, quiet))
        if as_json:
            typer.echo(json.dumps(asdict(taught), ensure_ascii=False))
            return
        typer.echo(
            f"{len(taught.trial_ids)} models ({', '.join(taught.trial_ids)}) on "
            f"{taught.num_images:,} training images; they say the label of "
            f"{100 * taught.agreement:.1f} %\n{taught.path}\n"
            f"next: a sweep of the same split with  --set 'trial.teacher={local(taught.path)}'"
        )


def local(path: str) -> str:
    """A trial's teacher is a file of the machine that plans."""
    return "a local copy of it" if "://" in path else path
