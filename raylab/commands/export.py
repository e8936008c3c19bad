"""`raylab export`: a trained model as one file for other programs, with its model card."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import KeptPlace, KeptTrial
from raylab.errors import Problem, Refused

UNWRITTEN = "nothing was written"


def export(
    model: KeptPlace,
    trial: KeptTrial = None,
    output: Annotated[
        Literal["onnx", "torch_export"], typer.Option("--format", help="For which runtime.")
    ] = "onnx",
    file: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Default: <trial_id>.onnx or .pt2 here."
        ),
    ] = None,
    tta: Annotated[
        bool, typer.Option(help="With the trial's test-time augmentation in the graph.")
    ] = True,
) -> None:
    """Write a trained model as one file, checked against the model, and MODEL_CARD.md beside it
    (<file>.MODEL_CARD.md where that is another model's).

    raylab export results/aug --trial 3f2a --format onnx -o faces.onnx
    """
    with exit_codes():
        from raylab.after.kept import card_beside, card_of, find_kept, load_kept
        from raylab.storage import file_at

        place = find_kept(model, trial)
        suffix = ".onnx" if output == "onnx" else ".pt2"
        target = file or place.trial_id + suffix
        folder, name = file_at(target)
        if not folder.is_local:
            text = "a runtime's own library writes it, on this machine; give a path, and copy it"
            raise Refused([Problem(f"--output {target}", text)], "the request", UNWRITTEN)
        kept = load_kept(place)
        path = Path(folder.path_of(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        difference = exporter(output)(kept, path, with_tta=tta)
        card = card_beside(folder, name)
        folder.write_bytes(card, card_of(place, kept, name).encode())
        typer.echo(target)
        said = f"probabilities differ by at most {difference:.1g}; read {folder.path_of(card)}"
        typer.echo(said, err=True)


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
        raise Refused([problem], "the request", UNWRITTEN) from error
    return export_onnx
