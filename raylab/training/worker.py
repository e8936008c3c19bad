"""What one worker of a trial holds, and how it meets the other workers.

N = images held by this worker, K = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class TrainingData:
    """The images one worker holds, and which of them train and validate.

    images: uint8 (N, H, W, C), 0..255; may be a read-only view that trials share
    labels: int64 (M,), 0..K-1
    train_rows, val_rows: int64, positions in `labels`; with several workers this worker's only
    pixel_rows: int64 (M,), each label's row of `images`, where identical images share one;
    without it, M = N and they stand in the same order
    soft_labels: float32 (M, K), shares that add up to 1, to learn in place of labels
    """

    images: torch.Tensor
    labels: npt.NDArray[np.int64]
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    pixel_rows: npt.NDArray[np.int64] | None = None
    soft_labels: npt.NDArray[np.float32] | None = None


def _alone(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return counts


def _unwrapped(module: nn.Module) -> nn.Module:
    return module


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with gradients averaged over the workers. BatchNorm's running statistics stay each
    worker's own until `average_buffers`: DDP would put the first one's in their place every step.
    """
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)


@dataclass
class Collective:
    """How this worker meets the others; the default is a worker that is alone."""

    rank: int = 0
    world: int = 1
    sum_counts: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = _alone
    """All-reduce: the sum over the workers of a float64 array."""
    wrap: Callable[[nn.Module], nn.Module] = _unwrapped
    """DistributedDataParallel or the module itself; it must average gradients over workers."""

    def average_buffers(self, module: nn.Module) -> None:
        """BatchNorm statistics become the workers' mean, so that all validate the same model."""
        if self.world == 1:
            return
        buffers = [b for b in module.buffers() if b.is_floating_point() and b.numel()]
        if not buffers:
            return
        flat = torch.cat([b.detach().double().flatten() for b in buffers]).cpu().numpy()
        mean = torch.from_numpy(self.sum_counts(flat) / self.world)
        sizes = [b.numel() for b in buffers]
        for buffer, part in zip(buffers, torch.split(mean, sizes), strict=True):
            buffer.copy_(part.view_as(buffer))
