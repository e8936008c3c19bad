"""From a weights file to a network that begins with them, or a list of what does not fit.

Files are read without running code from them: safetensors, or torch's weights-only pickle.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from raylab.config.files import DESCRIPTION, PACKAGE, checked, path_of
from raylab.config.trial import Filter, TrialConfig
from raylab.training.layers import classifier_names, is_below, zero_classifier

Weights = dict[str, torch.Tensor]

MAX_SHOWN = 3
MAX_LISTED = 50
# Under which key other trainers keep the weights, and what their wrappers put before a name.
NESTED_KEYS = ("state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")


def load_pretrained(model: nn.Module, pretrained: str, digest: str, channels: int) -> None:
    """Load the file that `pretrained` names; a classifier for other classes stays new.

    digest: 16 hex digits of the content that is meant, '' = any. Raises ValueError where the file
    is missing, has another content, or does not fit the model.
    """
    path = checked("pretrained", pretrained, digest)
    weights = read_weights(path)
    if pretrained.startswith(PACKAGE):
        weights = in_order(weights, model.state_dict())
    load_weights(model, weights, path, channels)


def kept_normalization(pretrained: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std per channel with which the weights were trained, where raylab kept them as a
    model (see `checkpoint`); None for any other file. ValueError where there is no file.
    """
    kept = _kept_beside(pretrained)
    try:
        return tuple(kept["mean"]), tuple(kept["std"])
    except (KeyError, TypeError):
        return None


def kept_filter(pretrained: str) -> Filter | None:
    """The filter that brought the images to size, otherwise as `kept_normalization`."""
    try:
        return TrialConfig.model_validate(_kept_beside(pretrained)["config"]).filter
    except (KeyError, ValueError):
        return None


def _kept_beside(pretrained: str) -> dict[str, Any]:
    """What raylab wrote of the weights; empty where there is nothing, or it is of another tool."""
    description = path_of("pretrained", pretrained).parent / DESCRIPTION
    try:
        kept = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def read_weights(path: Path) -> Weights:
    """By name; ValueError if the file holds none."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both parsers raise anything at all on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"pretrained: {path} cannot be read as weights: {reason}") from error
    for key in NESTED_KEYS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    values = loaded.values() if isinstance(loaded, dict) else (None,)
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise ValueError(f"pretrained: {path} holds no weights by name (a state dict)")
    return {_without_wrappers(name): tensor for name, tensor in loaded.items()}


def _without_wrappers(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def in_order(weights: Weights, wanted: Weights) -> Weights:
    """Under the model's names, where a package has others in the same order.

    Only packages are read so: of a user's file, equal shapes in another order would pass unseen.
    """
    if len(weights) != len(wanted) or weights.keys() & wanted.keys():
        return weights
    return dict(zip(wanted, weights.values(), strict=True))


def load_weights(model: nn.Module, weights: Weights, path: Path, channels: int) -> None:
    """Strict but for the classifier, which begins at zero where its shape differs, and the first
    convolution, which becomes one of `channels`.
    """
    wanted = model.state_dict()
    heads = classifier_names(model)
    fitting = dict(weights)
    for name, tensor in weights.items():
        if name not in wanted or wanted[name].shape == tensor.shape:
            continue
        if is_below(name, heads):
            del fitting[name]
        elif tensor.ndim == 4 and tensor.shape[1] in (1, 3) and wanted[name].shape[1] == channels:
            fitting[name] = first_convolution(tensor, channels)
    unfit = {
        "missing": [n for n in wanted if n not in weights and not is_below(n, heads)],
        "unknown to the model": [n for n in fitting if n not in wanted],
        "of another shape": [
            f"{n} {tuple(t.shape)} instead of {tuple(wanted[n].shape)}"
            for n, t in fitting.items()
            if n in wanted and wanted[n].shape != t.shape
        ],
    }
    if any(unfit.values()):
        raise ValueError(_mismatch(path, unfit))
    model.load_state_dict(fitting, strict=False)
    if any(is_below(name, heads) and name not in fitting for name in wanted):
        zero_classifier(model)


def first_convolution(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """From its weights (O, 1 or 3, k, k) those for 1 or 3 channels: for grey images the sum over
    the colours, as in timm; for each colour a third of grey's, which sees a grey image alike.
    """
    if weight.shape[1] == 1:
        return weight.repeat(1, channels, 1, 1) / channels
    adapted: torch.Tensor = adapt_input_conv(channels, weight)
    return adapted


def _mismatch(path: Path, unfit: dict[str, list[str]]) -> str:
    """Every name on a line of its own, then all of it in one line: the one that a record keeps."""
    lines = [f"{kind}: {name}" for kind, names in unfit.items() for name in names[:MAX_LISTED]]
    counts = [
        f"{len(names)} {kind} ({', '.join(names[:MAX_SHOWN])}{', …' * (len(names) > MAX_SHOWN)})"
        for kind, names in unfit.items()
        if names
    ]
    text = f"pretrained: {path} holds other weights than the model: {'; '.join(counts)}"
    return "\n".join([*lines, text])
