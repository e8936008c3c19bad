"""From a model and images to probabilities, confusion counts and a loss sum; nothing random.

B = batch, V = views of an image (test-time augmentation), K = classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from raylab.training.memory import is_out_of_memory
from raylab.training.metrics import Counts, confusion_counts
from raylab.training.pixels import Pixels

IMAGES_PER_BATCH = 256
TENCROP_FRAC = 0.875  # side of a crop, as in 224 of 256


@dataclass(frozen=True)
class Evaluation:
    """counts: int64 (K, K); loss_sum: cross-entropy summed; probs: float32 (rows, K)."""

    counts: Counts
    loss_sum: float
    probs: npt.NDArray[np.float32]


def evaluate(
    model: nn.Module,
    pixels: Pixels,
    labels: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    num_classes: int,
    *,
    tta: str = "none",
    amp: torch.dtype | None = None,
) -> Evaluation:
    """Score the rows of `pixels`; labels: int64 (N,) of all images, rows: int64."""
    log_probs = predict_log_probs(model, pixels, rows, num_classes, tta=tta, amp=amp)
    true = labels[rows]
    loss_sum = -float(log_probs[np.arange(len(true)), true].astype(np.float64).sum())
    counts = confusion_counts(true, log_probs.argmax(1).astype(np.int64), num_classes)
    return Evaluation(counts, loss_sum, np.exp(log_probs))


@torch.inference_mode()
def predict_log_probs(
    model: nn.Module,
    pixels: Pixels,
    rows: npt.NDArray[np.int64],
    num_classes: int,
    *,
    tta: str = "none",
    amp: torch.dtype | None = None,
) -> npt.NDArray[np.float32]:
    """float32 (rows, K): log of the probabilities, averaged over the views."""
    model.eval()
    out = torch.empty((len(rows), num_classes), device=pixels.device)
    order = torch.tensor(rows, device=pixels.images.device)
    start, size = 0, IMAGES_PER_BATCH
    while start < len(rows):
        part = order[start : start + size]
        try:
            out[start : start + len(part)] = _log_probs(model, pixels, part, tta, amp)
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size //= 2
            continue
        start += len(part)
    log_probs: npt.NDArray[np.float32] = out.cpu().numpy()
    return log_probs


def _log_probs(
    model: nn.Module, pixels: Pixels, rows: torch.Tensor, tta: str, amp: torch.dtype | None
) -> torch.Tensor:
    """float32 (B, K) of one batch; rows: int64 (B,)."""
    images = pixels.normalize(pixels.take(rows))
    with torch.autocast(pixels.device.type, amp, enabled=amp is not None):
        logits = [model(view) for view in views(images, tta)]
    by_view = torch.stack([functional.log_softmax(each.float(), 1) for each in logits])
    return by_view.logsumexp(0) - math.log(len(logits))


def views(images: torch.Tensor, tta: str) -> Iterator[torch.Tensor]:
    """(B, C, H, W) each: the image; its mirror too; or 5 crops, brought back to size; those and
    their mirrors.
    """
    crops = _five_crops(images) if tta in ("fivecrop", "tencrop") else iter((images,))
    for crop in crops:
        yield crop
        if tta in ("flip", "tencrop"):
            yield crop.flip(3)


def _five_crops(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The corners and the centre, resized to the side the model was made for."""
    side = images.shape[-1]
    crop = max(1, round(side * TENCROP_FRAC))
    rest = side - crop
    for top, left in ((0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)):
        part = images[:, :, top : top + crop, left : left + crop]
        yield functional.interpolate(
            part, size=images.shape[2:], mode="bilinear", align_corners=False
        )
