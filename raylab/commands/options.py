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


def joined(address: str | None) -> str | None:
    """The Ray to join; None = none, whatever RAY_ADDRESS says."""
    return None if address in ("", "none") else address


Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        metavar="ADDRESS",
        help="auto or host:port of a Ray that runs; http://host:8265 = there, as a Ray job; "
        "none = a local Ray.",
        callback=joined,
    ),
]
ResultsPlace = Annotated[str, typer.Argument(metavar="RESULTS", help="A results directory or URI.")]
KeptPlace = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A kept model: checkpoints/<trial_id> or final/<trial_id> of a results directory, "
        "or that directory itself with --trial.",
    ),
]
KeptTrial = Annotated[
    str | None,
    typer.Option("--trial", metavar="TRIAL", help="A trial_id, or enough of its beginning."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")]
