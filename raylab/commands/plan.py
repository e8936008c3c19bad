"""`raylab plan`: what a sweep would do."""

import json
import sys
from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import AsJson, Data, GridPath, Results, Settings


def plan(
    grid: GridPath,
    settings: Settings = None,
    data: Data = None,
    results: Results = None,
    as_json: AsJson = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train a few real steps of each kind to tell the time.")
    ] = False,
    reuse: Annotated[
        list[str] | None,
        typer.Option(
            "--reuse",
            metavar="DIR_OR_URI",
            help="Other results to look for done and measured trials in; repeatable.",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Trials side by side.  [default: as many as this machine's CPUs and GPUs hold]",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="Rows of the table.")] = 20,
) -> None:
    """Say what `sweep` would do and how long it would take, touching nothing.

    raylab plan grids/models.yaml --data faces --probe
    """
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.forecast.estimate import local_slots
        from raylab.forecast.overview import Question, overview
        from raylab.images.source import scan
        from raylab.results.directory import ResultsDirectory
        from raylab.results.outline import plan_text
        from raylab.sweep.plan import Plan

        wanted = read_grid(grid, overrides=settings or (), data=data)
        directory = ResultsDirectory(results or f"results/{wanted.name}")
        others = tuple(ResultsDirectory(place) for place in reuse or ())
        planned, measured = Plan(wanted, scan(wanted.data)), None
        if probe:
            from raylab.forecast.probe import num_gpus
            from raylab.forecast.probe import probe as measure

            slots = slots or max(1, local_slots(wanted.resources, num_gpus()))
            measured = measure(planned, slots, lambda text: print(text, file=sys.stderr))
        found = overview(planned, Question(directory, others, measured, slots, top))
        typer.echo(json.dumps(found, ensure_ascii=False) if as_json else plan_text(found))
