"""The door: which verbs there are. Each lives in commands/; nothing heavy is loaded here."""

from typing import Annotated

import typer

from raylab import __version__
from raylab.commands.audit import audit
from raylab.commands.bench import bench
from raylab.commands.diagnose import diagnose
from raylab.commands.distill import distill
from raylab.commands.export import export
from raylab.commands.extend import extend
from raylab.commands.final import final
from raylab.commands.leaderboard import leaderboard
from raylab.commands.manifest import manifest
from raylab.commands.plan import plan
from raylab.commands.predict import predict
from raylab.commands.report import report
from raylab.commands.rerun import rerun
from raylab.commands.sweep import sweep
from raylab.commands.toy import toy
from raylab.commands.watch import watch

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


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Before any verb."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


for verb in (
    *(sweep, plan, watch, manifest, audit, leaderboard, diagnose, report, final, rerun),
    *(extend, distill, predict, export, toy, bench),
):
    app.command()(verb)


def main() -> None:
    """The `raylab` command."""
    app()
