"""Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights of the last epochs.

B = batch, C = channels, H = W = side in px.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from raylab.config.trial import TrialConfig
from raylab.training.layers import set_train_mode

NUM_BN_IMAGES = 4096
"""BatchNorm's statistics of a mean of weights come from so many images: more change no digit that
counts (Wu and Johnson 2021), and whole epochs of them would cost a third of the training."""


class Swa:
    """`module` holds the equal mean of the weights at the ends of the epochs that count."""

    def __init__(self, model: nn.Module, config: TrialConfig) -> None:
        self.first_epoch = config.epochs - config.num_swa_epochs + 1
        self.average = AveragedModel(model)

    def counts(self, epoch: int) -> bool:
        """Whether the epoch (1-based) is one of the last."""
        return epoch >= self.first_epoch

    @property
    def has_begun(self) -> bool:
        """Whether `module` is a mean yet."""
        return int(self.average.n_averaged) > 0

    @property
    def module(self) -> nn.Module:
        """The network with the mean of the weights."""
        return self.average.module

    def update(
        self, model: nn.Module, batches: Iterable[torch.Tensor], amp: torch.dtype | None
    ) -> None:
        """Take the weights in; batches: float (B, C, H, W) as learned from, for BatchNorm."""
        self.average.update_parameters(model)
        for mean, learned in zip(self.module.parameters(), model.parameters(), strict=True):
            mean.requires_grad_(learned.requires_grad)  # what is frozen differs from epoch to epoch
        refresh_batchnorm(self.module, batches, amp)

    def state_dict(self) -> dict[str, Any]:
        """The mean, and of how many epochs it is; tensors are shared, not copied."""
        return self.average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.average.load_state_dict(state)


@torch.no_grad()
def refresh_batchnorm(
    model: nn.Module, batches: Iterable[torch.Tensor], amp: torch.dtype | None = None
) -> None:
    """BatchNorm's statistics anew: a mean of weights was never run. As torch's `update_bn`, but
    frozen ones keep theirs. Leaves the model in eval mode.
    """
    set_train_mode(model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    if norms:
        for images in batches:
            with torch.autocast(images.device.type, amp, enabled=amp is not None):
                model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
