"""From a trial config to a network whose frozen parts are frozen; it knows no data.

B = batch, C = channels, K = classes.
"""

from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from raylab.config.trial import Filter, TrialConfig
from raylab.training.layers import check_classifier, freeze, freeze_batchnorm, zero_classifier
from raylab.training.weights import kept_filter, kept_normalization, load_pretrained

PLAIN_MEAN, PLAIN_STD = 0.5, 0.25


def compiled(model: nn.Module) -> nn.Module:
    """The model, compiled at its first step. Trials that follow each other in a process share
    torch's count of graphs per function, beyond which it would go on uncompiled: as many as it has.
    """
    limits = torch._dynamo.config  # by the names that every torch knows
    limits.cache_size_limit = limits.accumulated_cache_size_limit
    return cast(nn.Module, torch.compile(model))


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
        self.pretrained_cfg = {"classifier": "fc"}  # as timm's models say it

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: float (B, C, H, W), normalised; gives logits (B, K)."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        logits: torch.Tensor = self.fc(self.dropout(maps.mean((2, 3))))
        return logits

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The order of the layers, as timm's models tell it."""
        return {"stem": "^layer1", "blocks": r"^layer([2-4])"}


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
        load_pretrained(model, config.pretrained, config.pretrained_digest, config.channels)
    freeze(model, config.train_layers)
    check_classifier(model)
    if config.freeze_bn:
        freeze_batchnorm(model)
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
        model: nn.Module = timm.create_model(
            config.model,
            pretrained=config.pretrained is True,
            in_chans=config.channels,
            num_classes=num_classes,
            **options,
        )
    except TypeError as error:
        raise ValueError(f"model {config.model} does not take an option: {error}") from error
    if config.pretrained is True and known is not None and known.num_classes != num_classes:
        zero_classifier(model)
    return model


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


def pretrained_filter(config: TrialConfig) -> Filter:
    """The filter by which the images of `pretrained` weights were brought to size: bicubic or
    bilinear; bicubic too where nobody says, or it is one that raylab has not.
    """
    if isinstance(config.pretrained, str) and (kept := kept_filter(config.pretrained)):
        return kept
    if config.model == "cnn":
        return "bicubic"
    known = timm.get_pretrained_cfg(config.model, allow_unregistered=True)
    return "bilinear" if known is not None and known.interpolation == "bilinear" else "bicubic"


def normalization(config: TrialConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel of images in 0..1; pretrained weights expect their own."""
    known = None
    if isinstance(config.pretrained, str):
        kept = kept_normalization(config.pretrained)
        if kept is not None:
            mean, std = kept
            return for_channels(mean, config.channels), for_channels(std, config.channels)
    if config.pretrained is not False and config.model != "cnn":
        known = timm.get_pretrained_cfg(config.model, allow_unregistered=True)
    if known is None:
        return (PLAIN_MEAN,) * config.channels, (PLAIN_STD,) * config.channels
    return for_channels(known.mean, config.channels), for_channels(known.std, config.channels)


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A value per channel: as given, or all of them the mean where those are of other channels."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
