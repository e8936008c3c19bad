"""`raylab bench`: how close this machine comes to the hardware limit, side by side."""

import sys
from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import AsJson


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these measurements.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="The same; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes, under 3 minutes on 2 cores.")
    ] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="The training core on this machine's GPU, without Ray.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how close this machine comes to the hardware limit; both sides in one run.

    raylab bench --quick --only launch prepare
    """
    with exit_codes():
        from raylab.bench.run import run
        from raylab.bench.table import as_json as to_json
        from raylab.bench.table import render

        with terminated_as_interrupt():
            done = run([*(only or ()), *(names or ())], quick=quick, on_gpu=gpu)
        text = to_json(done.rows, done.machine) if as_json else render(done.rows, done.title)
        typer.echo(text)
        sys.exit(done.exit_code)
