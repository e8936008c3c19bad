"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): a batch is mixed with its own shuffle.

One mixing share is drawn per batch, on the host, so that a GPU is never waited for.
B = batch, K = classes, H, W = sides in px.
"""

import math

import numpy as np
import torch
from torch.nn import functional


def mix(
    images: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    mixup: float,
    cutmix: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixed images (B, C, H, W) and soft targets float32 (B, K); at least one alpha is > 0.

    labels: int64 (B,), or soft (B, K). With both alphas > 0 each batch draws one of the two.
    """
    is_soft = labels.ndim == 2
    targets = labels if is_soft else functional.one_hot(labels, num_classes).to(torch.float32)
    partner = torch.from_numpy(rng.permutation(len(images)))
    partner = partner.to(images.device, non_blocking=True)
    cuts = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
    alpha = cutmix if cuts else mixup
    share = float(rng.beta(alpha, alpha))  # of the image itself
    if cuts:
        images, share = _cut(images, partner, share, rng)
    else:
        images = images.lerp(images.index_select(0, partner), 1 - share)
    return images, targets.lerp(targets.index_select(0, partner), 1 - share)


def _cut(
    images: torch.Tensor, partner: torch.Tensor, share: float, rng: np.random.Generator
) -> tuple[torch.Tensor, float]:
    """A rectangle of about 1 - share of the area comes from the partner; gives the exact share."""
    height, width = images.shape[2:]
    side_frac = math.sqrt(1 - share)
    centre_y, centre_x = rng.integers(height), rng.integers(width)
    half_y, half_x = height * side_frac / 2, width * side_frac / 2
    top, bottom = max(0, round(centre_y - half_y)), min(height, round(centre_y + half_y))
    left, right = max(0, round(centre_x - half_x)), min(width, round(centre_x + half_x))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
