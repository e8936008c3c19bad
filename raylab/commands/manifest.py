"""`raylab manifest`: a sweep as a Kubernetes manifest."""

from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import Data, GridPath, Settings


def manifest(
    grid: GridPath,
    results: Annotated[str, typer.Option(metavar="URI", help="s3://… for the results.")],
    settings: Settings = None,
    data: Data = None,
    image: Annotated[
        str | None, typer.Option(help="With this raylab inside; default raylab:<version>.")
    ] = None,
    max_workers: Annotated[int, typer.Option(min=1, help="Worker pods at most.")] = 8,
    gpus: Annotated[int, typer.Option(min=0, help="Per worker pod.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Per worker pod.")] = 8,
    memory: Annotated[str, typer.Option(help="Per worker pod.")] = "32Gi",
) -> None:
    """Print a KubeRay RayJob that runs the sweep on a cluster of its own.

    raylab manifest grids/aug.yaml --data s3://b/faces --results s3://b/aug | kubectl apply -f -
    """
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.remote.manifest import DEFAULT_IMAGE, Machines
        from raylab.remote.manifest import manifest as manifest_of

        wanted = read_grid(grid, overrides=settings or (), data=data)
        machines = Machines(image or DEFAULT_IMAGE, max_workers, gpus, cpus, memory)
        typer.echo(manifest_of(wanted, results, machines), nl=False)
