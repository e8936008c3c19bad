"""What one epoch came to, and the best of them; numbers only, no training.

K = classes.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a sweep's driver, which knows epochs too, does without torch
    import torch


@dataclass(frozen=True)
class EpochRow:
    """What one epoch came to, over all workers."""

    epoch: int
    """1-based."""
    train_loss: float
    """Mean of what was minimised, with augmentation, mixing and smoothing, while learning."""
    train_accuracy: float
    val_loss: float
    """Mean plain cross-entropy."""
    val_accuracy: float
    val_macro_f1: float
    lr: float
    """Of the epoch's last step."""
    seconds: float
    train_images_per_s: float
    """Without validation."""
    precision: str = "float32"
    """In which the convolutions were computed."""
    num_micro_batches: int = 1
    """Parts into which every batch was cut because memory did not hold it whole."""
    is_last: bool = False
    """No epoch follows: they are over, or `patience` is."""


@dataclass
class Best:
    """The best epoch so far. Passed in, it survives a `report` that raises SystemExit."""

    epoch: int = 0
    value: float = math.nan
    probs: npt.NDArray[np.float32] | None = None
    """float32 (validation images of this worker, K)."""
    state: "dict[str, torch.Tensor] | None" = None
    """The model's state dict on the CPU (averaged weights with `ema_decay`, `swa_frac`); rank 0
    only."""

    def is_beaten_by(self, value: float, mode: str) -> bool:
        """Ties keep the earlier epoch."""
        if self.epoch == 0:
            return True
        return value > self.value if mode == "max" else value < self.value
