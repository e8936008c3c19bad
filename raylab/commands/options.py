"""Options that several verbs share, with one wording."""

from pathlib import Path
from typing import Annotated

import typer

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
