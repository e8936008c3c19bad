"""From a trial config to its optimiser and the learning rate of every step."""

import math
from collections.abc import Collection
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.training.layers import classifier_names, is_below, layer_of

WARMUP_START_FRAC = 0.01
PLATEAU_EPOCHS = 3
PLATEAU_FACTOR = 0.5
ONECYCLE_RISE_FRAC = 0.3
ONECYCLE_START_FRAC = 1 / 25
ONECYCLE_END_FRAC = 1e-4  # of the start


def build_optimizer(model: nn.Module, config: TrialConfig) -> torch.optim.Optimizer:
    """The optimiser over what learns."""
    groups = param_groups(model, config)
    lr, momentum, betas = config.lr, config.momentum, (config.momentum, 0.999)
    match config.optimizer:
        case "sgd":
            sgd = torch.optim.SGD(
                groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True
            )
            if momentum > 0:
                _begin_at_rest(sgd)
            return sgd
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
        case "nadam":
            nadam = torch.optim.NAdam(groups, lr=lr, betas=betas, foreach=True)
            nadam.register_load_state_dict_pre_hook(_numbers_for_products)
            return nadam
        case "radam":
            return torch.optim.RAdam(groups, lr=lr, betas=betas, foreach=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, momentum=momentum, foreach=True)


def _begin_at_rest(sgd: torch.optim.SGD) -> None:
    """Momentum 0 for all that will ever learn, which gives the same steps as torch's late start.

    Torch begins a whole group at its first step: its fused kernel refuses a group of which a part
    learns later, and leaves memory as it found it where that step overflows in float16.
    """
    for group in sgd.param_groups:
        for parameter in group["params"]:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _numbers_for_products(_: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """A state of NAdam with its products of momenta as numbers, of which loading makes tensors on
    the CPU, where they were; loaded as tensors they would go to the GPU, and every step wait there.
    """
    state = {
        place: {**kept, "mu_product": float(kept["mu_product"])}
        for place, kept in saved["state"].items()
    }
    return {**saved, "state": state}


def param_groups(model: nn.Module, config: TrialConfig) -> list[dict[str, Any]]:
    """What learns, by the share of the lr at which it does, and by whether it is decayed: biases
    and norms are not, nor what the model itself leaves out, such as positions (as in timm).
    """
    scales = lr_scales(model, config)
    spared: Collection[str] = getattr(model, "no_weight_decay", set)()
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_spared = any(fnmatch(name, pattern) for pattern in spared)
            key = (scales[name], parameter.ndim >= 2 and not is_spared)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": groups[scale, is_decayed],
            "weight_decay": config.weight_decay if is_decayed else 0.0,
            "lr_scale": scale,
        }
        for scale, is_decayed in sorted(groups, reverse=True)
    ]


def lr_scales(model: nn.Module, config: TrialConfig) -> dict[str, float]:
    """By parameter name, its lr over the trial's."""
    scales = {name: 1.0 for name, _ in model.named_parameters()}
    if config.layer_decay < 1:
        layers = layer_of(model, coarse=False)
        last = max(layers.values())
        scales = {name: config.layer_decay ** (last - layer) for name, layer in layers.items()}
    if config.head_lr_scale != 1:
        heads = classifier_names(model)
        scales |= {n: scales[n] * config.head_lr_scale for n in scales if is_below(n, heads)}
    return scales


def lr_factor(config: TrialConfig, elapsed_epochs: float) -> float:
    """The share of the peak `lr` after that many epochs (a fraction); plateau steps apart.

    It stays as it is once `swa_frac` averages: the weights are to wander, not to settle.
    """
    warmup, total = config.warmup_epochs, config.epochs
    elapsed_epochs = min(elapsed_epochs, total - config.num_swa_epochs)
    if config.lr_schedule == "onecycle":
        return one_cycle(elapsed_epochs, warmup or ONECYCLE_RISE_FRAC * total, total)
    if elapsed_epochs < warmup:
        return WARMUP_START_FRAC + (1 - WARMUP_START_FRAC) * elapsed_epochs / warmup
    if config.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (elapsed_epochs - warmup) / (total - warmup)))
    if config.lr_schedule == "step":
        return 0.1 ** ((elapsed_epochs >= total / 2) + (elapsed_epochs >= total * 3 / 4))
    return 1.0


def one_cycle(elapsed_epochs: float, rise_epochs: float, total_epochs: float) -> float:
    """Both slopes are half cosines (Smith and Topin 2018, shaped as torch's OneCycleLR)."""
    start, end = ONECYCLE_START_FRAC, ONECYCLE_START_FRAC * ONECYCLE_END_FRAC
    if elapsed_epochs < rise_epochs:
        return 1 + 0.5 * (start - 1) * (1 + math.cos(math.pi * elapsed_epochs / rise_epochs))
    fallen = (elapsed_epochs - rise_epochs) / (total_epochs - rise_epochs)
    return end + 0.5 * (1 - end) * (1 + math.cos(math.pi * fallen))


class Schedule:
    """Sets the learning rate before each step; hears of each epoch's val_loss."""

    def __init__(
        self, config: TrialConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
    ) -> None:
        self.config, self.optimizer, self.steps_per_epoch = config, optimizer, steps_per_epoch
        self.lr = config.lr
        self.factor = 1.0
        self.best_loss = math.inf
        self.num_bad_epochs = 0
        self.is_held = False

    def set_lr(self, epoch: int, step: int) -> None:
        """epoch is 1-based, step counts from 0 within the epoch."""
        elapsed_epochs = epoch - 1 + step / self.steps_per_epoch
        self.is_held = epoch > self.config.epochs - self.config.num_swa_epochs
        self.lr = self.config.lr * lr_factor(self.config, elapsed_epochs) * self.factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group.get("lr_scale", 1.0)

    def end_epoch(self, val_loss: float) -> None:
        """Only `plateau` listens: the rate halves when 3 epochs brought no better val_loss."""
        if self.config.lr_schedule != "plateau" or self.is_held:
            return
        if val_loss < self.best_loss:
            self.best_loss, self.num_bad_epochs = val_loss, 0
            return
        self.num_bad_epochs += 1
        if self.num_bad_epochs == PLATEAU_EPOCHS:
            self.factor, self.num_bad_epochs = self.factor * PLATEAU_FACTOR, 0

    def state_dict(self) -> dict[str, float]:
        """What the epochs so far have changed."""
        return {
            "factor": self.factor,
            "best_loss": self.best_loss,
            "num_bad_epochs": self.num_bad_epochs,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what `state_dict` gave."""
        self.factor, self.best_loss = state["factor"], state["best_loss"]
        self.num_bad_epochs = int(state["num_bad_epochs"])
