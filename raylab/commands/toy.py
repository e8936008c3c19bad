"""`raylab toy`: the built-in faces as an image folder."""

from pathlib import Path
from typing import Annotated

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.errors import Problem, Refused


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
