"""`raylab predict`: what a trained model says of images."""

import sys
import time
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import KeptPlace, KeptTrial


def predict(
    model: KeptPlace,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, or folders of any depth.")
    ],
    trial: KeptTrial = None,
    output: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How.")
    ] = "table",
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Only the K most probable classes.  [default: 3 in a table, else all]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say what a trained model sees in images, which it looks at as in its validation.

    raylab predict results/aug --trial 3f2a holiday/*.jpg
    """
    with exit_codes():
        import torch

        from raylab.after.kept import boxes_given, find_kept, load_kept
        from raylab.images.found import printable
        from raylab.results.answers import render_answers
        from raylab.training.predict import predict_files

        place = find_kept(model, trial)
        kept = load_kept(place)
        if kept.config.crop == "face" and (num := boxes_given(place)):
            text = f"note: it learned from {num:,} faces that its source's boxes gave; here MTCNN"
            typer.echo(f"{text} finds them, whose boxes may be others", err=True)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        found = predict_files(kept, images, device, counted())
        for file, reason in found.unreadable:
            typer.echo(f"{printable(file)}  {reason}", err=True)
        for file in found.faceless:
            typer.echo(f"{printable(file)}  no face found: seen whole", err=True)
        files = [printable(file) for file in found.images]
        typer.echo(render_answers(files, found.classes, found.probs, output, top))
        sys.exit(1 if found.unreadable else 0)


def counted() -> Callable[[int], None]:
    """Hears how many images were seen so far, and says so on stderr now and then."""
    from raylab.events.progress import HEARTBEAT_S

    told_s = time.monotonic()

    def progress(num_seen: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > HEARTBEAT_S:
            told_s = time.monotonic()
            typer.echo(f"{num_seen:,} images seen so far", err=True)

    return progress
