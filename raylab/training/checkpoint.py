"""A trained model as a folder: weights as safetensors, and in JSON all that predicting needs."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.training.model import build_model, normalization

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def save_model(
    folder: Path,
    config: TrialConfig,
    classes: tuple[str, ...],
    state: dict[str, torch.Tensor],
) -> None:
    """Write the two files; `state` is the model's state dict on the CPU."""
    mean, std = normalization(config)
    description = {
        "config": config.model_dump(mode="json"),
        "classes": list(classes),
        "mean": list(mean),
        "std": list(std),
    }
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    text = json.dumps(description, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def load_model(folder: Path) -> tuple[nn.Module, TrialConfig, tuple[str, ...]]:
    """The model in eval mode, its config and its classes; weights are never unpickled."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    config = TrialConfig.model_validate(description["config"])
    classes = tuple(description["classes"])
    # The weights are in the file: nothing is fetched or read from where training began.
    model = build_model(config.model_copy(update={"pretrained": False}), len(classes))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval(), config, classes
