"""The training loss, summed over images so that workers can be added. B = batch, K = classes."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from raylab.config.trial import TrialConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits float32 (B, K) and targets, labels int64 (B,) or soft float32 (B, K), to their sum.

With label smoothing e, a target t becomes (1 - e) t + e / K; class weights multiply its parts.
"""

# Below it, (1 - p) ** gamma has no finite slope for gamma < 1.
MIN_DOUBT = 1e-6


def loss_of(config: TrialConfig, weights: torch.Tensor | None) -> Loss:
    """The config's loss; weights: float32 (K,), one per class."""
    smoothing = config.label_smoothing
    match config.loss:
        case "cross_entropy":
            return partial(
                functional.cross_entropy,
                weight=weights,
                label_smoothing=smoothing,
                reduction="sum",
            )
        case "focal":
            return partial(
                focal, gamma=config.focal_gamma, weights=weights, label_smoothing=smoothing
            )
        case "gce":
            return partial(
                generalised_cross_entropy,
                q=config.gce_q,
                weights=weights,
                label_smoothing=smoothing,
            )


def focal(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """(1 - p) ** gamma * -log p, summed (Lin et al. 2017)."""
    log_probs = functional.log_softmax(logits, 1)
    doubt = (1 - log_probs.exp()).clamp(min=MIN_DOUBT) ** gamma
    return -(_soft(logits, targets, weights, label_smoothing) * doubt * log_probs).sum()


def generalised_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    q: float,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """(1 - p ** q) / q, summed (Zhang and Sabuncu 2018)."""
    # Unlike p ** q, expm1 is smooth at p = 0 and exact for small q.
    missing = -torch.expm1(q * functional.log_softmax(logits, 1))
    return (_soft(logits, targets, weights, label_smoothing) * missing).sum() / q


def _soft(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """float32 (B, K): smoothed and weighted targets."""
    num_classes = logits.shape[1]
    if targets.ndim == 1:
        targets = functional.one_hot(targets, num_classes).to(logits.dtype)
    targets = targets * (1 - label_smoothing) + label_smoothing / num_classes
    return targets if weights is None else targets * weights


def class_weights(
    config: TrialConfig, num_per_class: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float64 (K,) for the config's `class_weights`, which are not `none`; num_per_class: (K,)."""
    if config.class_weights == "effective":
        return effective_weights(num_per_class, config.effective_beta)
    return balanced_weights(num_per_class)


def balanced_weights(num_per_class: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """num_train / (num_classes * count of the class): their mean over the images is 1."""
    count = np.maximum(num_per_class, 1)
    weights: npt.NDArray[np.float64] = num_per_class.sum() / (len(num_per_class) * count)
    return weights


def effective_weights(
    num_per_class: npt.NDArray[np.float64], beta: float
) -> npt.NDArray[np.float64]:
    """1 / effective number, (1 - beta ** count) / (1 - beta) (Cui et al. 2019), scaled so that
    their mean over the images is 1, and the loss as large as without them.
    """
    inverse = (1 - beta) / (1 - beta ** np.maximum(num_per_class, 1))
    weights: npt.NDArray[np.float64] = inverse * num_per_class.sum() / (num_per_class @ inverse)
    return weights
