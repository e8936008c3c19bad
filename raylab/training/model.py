"""From a trial config to a network whose frozen parts are frozen; it knows no data.

B = batch, C = channels, K = classes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers.drop import DropPath
from timm.models import adapt_input_conv
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raylab.config.trial import TrialConfig

PLAIN_MEAN, PLAIN_STD = 0.5, 0.25


class Cnn(nn.Module):
    """The small plain baseline: four blocks of convolution, BatchNorm, ReLU and pooling."""

    def __init__(self, channels: int, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        self.layer1 = _block(channels, widths[0])
        self.layer2 = _block(widths[0], widths[1])
        self.layer3 = _block(widths[1], widths[2])
        self.layer4 = _block(widths[2], widths[3], pooled=False)
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: float (B, C, H, W), normalised; gives logits (B, K)."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        logits: torch.Tensor = self.fc(self.dropout(maps.mean((2, 3))))
        return logits


def _block(channels_in: int, channels_out: int, *, pooled: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pooled else []))


def build_model(config: TrialConfig, num_classes: int) -> nn.Module:
    """The trial's network, initialised from torch's global generator.

    Raises ValueError where the model cannot do what the config asks of it.
    """
    model = _cnn(config, num_classes) if config.model == "cnn" else _timm(config, num_classes)
    _check_dropout(model, config)
    if isinstance(config.pretrained, str):
        load_weights(model, Path(config.pretrained), config.channels)
    freeze(model, config.train_layers)
    return model


def _cnn(config: TrialConfig, num_classes: int) -> nn.Module:
    if config.pretrained is True:
        raise ValueError("pretrained: cnn has no pretrained weights; give false or a weights file")
    return Cnn(config.channels, num_classes, config.drop_rate)


def _timm(config: TrialConfig, num_classes: int) -> nn.Module:
    options: dict[str, Any] = {
        "drop_rate": config.drop_rate or None,  # timm leaves out what is None
        "drop_path_rate": config.drop_path_rate or None,
    }
    known = timm.get_pretrained_cfg(config.model, allow_unregistered=True)
    if known is not None and known.fixed_input_size:
        options["img_size"] = config.image_size
    try:
        return timm.create_model(
            config.model,
            pretrained=config.pretrained is True,
            in_chans=config.channels,
            num_classes=num_classes,
            **options,
        )
    except TypeError as error:
        raise ValueError(f"model {config.model} does not take an option: {error}") from error


def _check_dropout(model: nn.Module, config: TrialConfig) -> None:
    """A rate that a model swallows without a sound would make its axis a lie."""
    modules = list(model.modules())
    if config.drop_path_rate > 0 and not any(
        isinstance(m, DropPath) or getattr(m, "drop_path_rate", 0) for m in modules
    ):
        raise ValueError(f"drop_path_rate: model {config.model} has no stochastic depth")
    if config.drop_rate > 0 and not any(
        (isinstance(m, nn.Dropout) and m.p > 0) or getattr(m, "drop_rate", 0) for m in modules
    ):
        raise ValueError(f"drop_rate: model {config.model} has no dropout")


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's modules, such as ("fc",)."""
    if isinstance(model, Cnn):
        return ("fc",)
    named = getattr(model, "pretrained_cfg", {}).get("classifier")
    if isinstance(named, str):
        return (named,)
    if named:
        return tuple(named)
    head = model.get_classifier()  # type: ignore[operator]
    return tuple(name for name, module in model.named_modules() if module is head)


def freeze(model: nn.Module, train_layers: str | tuple[str, ...]) -> None:
    """Leave only the parameters below the given names learning; `layer1` is not `layer10`."""
    if train_layers == "all":
        return
    prefixes = classifier_names(model) if train_layers == "head" else tuple(train_layers)
    parameters = dict(model.named_parameters())
    strangers = [p for p in prefixes if not any(_is_below(name, (p,)) for name in parameters)]
    if strangers:
        top = ", ".join(dict.fromkeys(name.split(".")[0] for name in parameters))
        raise ValueError(
            f"train_layers: no parameter's name begins with {', '.join(strangers)}; "
            f"the model's parts are {top}"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(_is_below(name, prefixes))


def _is_below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def set_train_mode(model: nn.Module) -> None:
    """train(), but BatchNorm in frozen parts keeps its statistics: they belong to its weights."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


def load_weights(model: nn.Module, path: Path, channels: int) -> None:
    """Weights from a safetensors or torch file; a classifier for other classes stays new."""
    weights = _read_weights(path)
    wanted = model.state_dict()
    heads = classifier_names(model)
    for name, tensor in list(weights.items()):
        if name not in wanted or wanted[name].shape == tensor.shape:
            continue
        if _is_below(name, heads):
            del weights[name]
        elif tensor.ndim == 4 and tensor.shape[1] in (1, 3) and wanted[name].shape[1] == channels:
            weights[name] = adapt_input_conv(channels, tensor)
    wrong = [n for n in weights if n not in wanted or wanted[n].shape != weights[n].shape]
    missing = [n for n in wanted if n not in weights and not _is_below(n, heads)]
    if wrong or missing:
        raise ValueError(
            f"pretrained: {path} holds other weights than the model: "
            f"{len(missing)} missing {missing[:3]}, {len(wrong)} that do not fit {wrong[:3]}"
        )
    model.load_state_dict(weights, strict=False)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ValueError(f"pretrained: no weights file at {path}")
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def normalization(config: TrialConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel of images in 0..1; pretrained weights expect their own."""
    known = None
    if config.pretrained is not False and config.model != "cnn":
        known = timm.get_pretrained_cfg(config.model, allow_unregistered=True)
    if known is None:
        return (PLAIN_MEAN,) * config.channels, (PLAIN_STD,) * config.channels
    mean, std = tuple(known.mean), tuple(known.std)
    if config.channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return mean, std
