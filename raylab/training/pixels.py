"""From uint8 images in memory to float batches on the device; nothing is decoded or loaded here.

B = images of a batch, C = channels, H = W = side in px.
"""

import warnings

import numpy as np
import numpy.typing as npt
import torch

from raylab.config.trial import TrialConfig
from raylab.training.model import normalization as normalization_of

# The rest of a GPU's free memory is left to activations and the optimiser.
RESIDENT_FRACTION = 0.4


class Pixels:
    """All images of a worker; on a GPU they live there if they fit."""

    def __init__(
        self,
        images: torch.Tensor,
        config: TrialConfig,
        device: torch.device,
        pixel_rows: npt.NDArray[np.int64] | None = None,
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    ) -> None:
        """images: uint8 (N, H, W, C), 0..255; pixel_rows: int64 (M,), each image's place in it;
        normalization: mean and std per channel, without it the config's.
        """
        assert images.dtype == torch.uint8
        assert images.ndim == 4
        self.images = images.to(device) if _fits(images, device) else images
        self.pixel_rows = None
        if pixel_rows is not None:
            self.pixel_rows = torch.tensor(pixel_rows, device=self.images.device)
        mean, std = normalization or normalization_of(config)
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1)
        self.device = self.mean.device  # `cuda` is not equal to the `cuda:0` that it means

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """float32 (B, C, H, W), 0..1, channels last; rows: int64 (B,), best where the images are:
        from another device each batch would wait for their copy.
        """
        rows = rows.to(self.images.device)
        if self.pixel_rows is not None:
            rows = self.pixel_rows.index_select(0, rows)
        taken = self.images.index_select(0, rows)
        if taken.device != self.device:
            taken = taken.pin_memory().to(self.device, non_blocking=True)
        # (B, H, W, C) seen as (B, C, H, W) is channels-last memory already: nothing moves.
        return taken.permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """images: float32 (B, C, H, W), 0..1; gives what the model was made for."""
        out = (images - self.mean).div_(self.std)
        return out.contiguous(memory_format=torch.channels_last)


def as_tensor(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """A shared page as a tensor. It is read-only, and nothing in training writes to it."""
    if not pixels.flags.writeable:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(pixels)
    return torch.from_numpy(pixels)


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or images.device.type == "cuda":
        return True
    free_bytes, _ = torch.cuda.mem_get_info(device)
    # What torch holds of an earlier trial's blocks is free as well: it gives them out again.
    free_bytes += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return images.nbytes <= RESIDENT_FRACTION * free_bytes
