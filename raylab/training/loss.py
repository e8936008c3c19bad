"""The training loss, summed over images so that workers can be added. B = batch, K = classes."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional


def training_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """Cross-entropy summed over the batch.

    logits: float32 (B, K); targets: labels int64 (B,) or soft float32 (B, K); weights: (K,).
    """
    return functional.cross_entropy(
        logits, targets, weight=weights, label_smoothing=label_smoothing, reduction="sum"
    )


def balanced_weights(num_per_class: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """num_train / (num_classes * count of the class): their mean over the images is 1."""
    count = np.maximum(num_per_class, 1)
    weights: npt.NDArray[np.float64] = num_per_class.sum() / (len(num_per_class) * count)
    return weights
