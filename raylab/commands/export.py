"""`raylab export`: a trained model as one file for other programs, with its model card."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import KeptPlace, KeptTrial
from raylab.errors import Problem, Refused


def export(
    model: KeptPlace,
    trial: KeptTrial = None,
    output: Annotated[
        Literal["onnx", "torch_export"], typer.Option("--format", help="For which runtime.")
    ] = "onnx",
    file: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Default: <trial_id>.onnx or .pt2 here."
        ),
    ] = None,
    tta: Annotated[
        bool, typer.Option(help="With the trial's test-time augmentation in the graph.")
    ] = True,
) -> None:
    """Write a trained model as one file, checked against the model, and MODEL_CARD.md beside it.

    raylab export results/aug --trial 3f2a --format onnx -o faces.onnx
    """
    with exit_codes():
        from raylab.after.kept import card_of, find_kept
        from raylab.training.checkpoint import load_model

        place = find_kept(model, trial)
        kept = load_model(place.folder)
        suffix = ".onnx" if output == "onnx" else ".pt2"
        target = file or Path(place.trial_id + suffix)
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        difference = exporter(output)(kept, target, with_tta=tta)
        card = target.absolute().parent / "MODEL_CARD.md"
        card.write_text(card_of(place, kept, target.name), encoding="utf-8")
        typer.echo(str(target))
        typer.echo(f"probabilities differ by at most {difference:.1g}; read {card}", err=True)


def exporter(output: str) -> Any:
    """The function of a format. Refused where the format's libraries are not installed."""
    if output == "torch_export":
        from raylab.training.export import export_torch

        return export_torch
    try:
        import onnxscript  # noqa: F401  # torch's translator needs it, and says so late

        from raylab.training.onnx_file import export_onnx
    except ModuleNotFoundError as error:
        text = f"needs {error.name}; pip install 'raylab[export]', or use --format torch_export"
        problem = Problem("--format onnx", text)
        raise Refused([problem], "the request", "nothing was written") from error
    return export_onnx
