"""A trained model as a folder: weights as safetensors, and in JSON all that predicting needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from raylab.config.files import DESCRIPTION, WEIGHTS
from raylab.config.trial import TrialConfig
from raylab.storage import Folder
from raylab.training.model import build_model, normalization
from raylab.training.precision import AMP_DTYPES, name_of


@dataclass(frozen=True)
class KeptModel:
    """A trained network in eval mode, and what its images were like."""

    network: nn.Module
    config: TrialConfig
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of images in 0..1."""
    std: tuple[float, ...]
    amp: torch.dtype | None
    """The autocast type in which it was validated."""


def save_model(
    folder: Folder | Path,
    config: TrialConfig,
    classes: tuple[str, ...],
    state: dict[str, torch.Tensor],
    precision: str = "float32",
    named: TrialConfig | None = None,
) -> None:
    """Write the two files, the weights first; `state` is the model's state dict on the CPU,
    `precision` the name of the type in which it computed its convolutions, `named` the config to
    tell of where it names otherwise what `config` began with (a trial, not its file).
    """
    mean, std = normalization(config)
    description = {
        "config": (named or config).model_dump(mode="json"),
        "classes": list(classes),
        "mean": list(mean),
        "std": list(std),
        "precision": precision,
    }
    place = folder if isinstance(folder, Folder) else Folder(folder)
    place.write_bytes(WEIGHTS, save({name: t.contiguous() for name, t in state.items()}))
    place.write_json(DESCRIPTION, description)


def load_model(folder: Folder | Path) -> KeptModel:
    """What `save_model` kept; weights are never unpickled. FileNotFoundError if it is not there."""
    place = folder if isinstance(folder, Folder) else Folder(folder)
    description: dict[str, Any] = place.read_json(DESCRIPTION)
    config = TrialConfig.model_validate(description["config"])
    classes = tuple(description["classes"])
    # The weights are in the file: nothing is read from where training began, nothing will learn.
    bare = config.model_copy(update={"pretrained": False, "train_layers": "all"})
    model = build_model(bare, len(classes))
    model.load_state_dict(load(place.read_bytes(WEIGHTS)))
    precision = description.get("precision", "float32")
    return KeptModel(
        network=model.eval().requires_grad_(False),
        config=config,
        classes=classes,
        mean=tuple(description["mean"]),
        std=tuple(description["std"]),
        amp={name_of(dtype): dtype for dtype in AMP_DTYPES}[precision],
    )
