"""From a kept model to an ONNX file, checked under onnxruntime; needs raylab[export]."""

import warnings
from pathlib import Path

import onnxruntime
import torch

from raylab.training.checkpoint import KeptModel
from raylab.training.export import INPUT, OUTPUT, Batch, check, deployed, example, exported, facts

OPSET = 18


def export_onnx(kept: KeptModel, file: Path, *, with_tta: bool) -> float:
    """Writes one file; gives the largest difference of a probability under onnxruntime.

    Raises CannotFinish where the model cannot be translated, or answers otherwise than before.
    """
    model = deployed(kept, with_tta=with_tta)
    with exported(kept, file) as unfinished:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the translator tells of its own steps
            program = torch.onnx.export(
                model,
                (example(kept, 2),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props.update(facts(kept, model.tta))
        program.save(str(unfinished), external_data=False)
        session = onnxruntime.InferenceSession(str(unfinished), providers=["CPUExecutionProvider"])

        def run(images: Batch) -> Batch:
            answer: Batch = session.run([OUTPUT], {INPUT: images})[0]
            return answer

        return check(kept, model, run)
