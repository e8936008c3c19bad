"""TrivialAugment (Müller and Hutter 2021): per image one operation, of a strength drawn evenly.

B = batch; images are float32 (B, C, H, W), 0..1. Ranges are those of the paper's wide space;
`equalize` is left out, as its histograms do not batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from raylab.training.affine import stack_matrix
from raylab.training.colour import brighten, contrast, saturate

ROTATE_DEG = 135.0
SHEAR = 0.99
SHIFT_FRAC = 0.99
FACTOR = 0.99
POSTERIZE_BITS = (2, 8)

OPERATIONS = (
    "identity",
    "rotate",
    "shear_x",
    "shear_y",
    "shift_x",
    "shift_y",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
)

Draw = Callable[[float, float], torch.Tensor]


@dataclass(frozen=True)
class Trivial:
    """One draw for a batch. operation: int64 (B,); strength: float (B,), -1..1."""

    operation: torch.Tensor
    strength: torch.Tensor

    def amount(self, name: str) -> torch.Tensor:
        """(B,): the strength where this operation was drawn, else 0."""
        return self.strength * (self.operation == OPERATIONS.index(name))

    @property
    def matrix(self) -> torch.Tensor:
        """(B, 3, 3) of the geometric operations; the identity for all others."""
        angle = self.amount("rotate") * (ROTATE_DEG * math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        shear_x, shear_y = self.amount("shear_x") * SHEAR, self.amount("shear_y") * SHEAR
        shift_x, shift_y = self.amount("shift_x") * SHIFT_FRAC, self.amount("shift_y") * SHIFT_FRAC
        # No image has two operations, so the sum of the parts is the one that was drawn.
        rows = [cos, shear_x - sin, 2 * shift_x, sin + shear_y, cos, 2 * shift_y]
        return stack_matrix(rows, torch.zeros_like(cos), torch.ones_like(cos))

    def recolour(self, images: torch.Tensor) -> torch.Tensor:
        """The other operations, each on the images that drew it."""
        for name, operation in RECOLOURING.items():
            chosen = self.operation == OPERATIONS.index(name)
            images = _apply(images, chosen, self.strength, operation)
        return images


def draw_trivial(draw: Draw) -> Trivial:
    """`draw(low, high)` gives float (B,), even in [low, high)."""
    operation = draw(0, len(OPERATIONS)).long().clamp(max=len(OPERATIONS) - 1)
    return Trivial(operation, draw(-1, 1))


def _apply(
    images: torch.Tensor,
    chosen: torch.Tensor,
    strength: torch.Tensor,
    operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """A CPU computes the chosen images only; a GPU all, since choosing would make it wait."""
    if images.device.type != "cpu":
        return torch.where(chosen.view(-1, 1, 1, 1), operation(images, strength), images)
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    return images.index_copy(0, rows, operation(images[rows], strength[rows]))


def _brightness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return brighten(images, 1 + FACTOR * strength)


def _contrast(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return contrast(images, 1 + FACTOR * strength)


def _saturation(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return saturate(images, 1 + FACTOR * strength)


def _sharpness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    channels = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5  # PIL's SMOOTH filter
    weight = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    smooth = functional.conv2d(padded, weight, groups=channels)
    return smooth.lerp(images, (1 + FACTOR * strength).view(-1, 1, 1, 1)).clamp_(0, 1)


def _posterize(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    low, high = POSTERIZE_BITS
    bits = high - ((high - low) * strength.abs()).round()
    levels = (2**bits).view(-1, 1, 1, 1)
    return (images * 255 / 256 * levels).floor() / levels


def _solarize(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    threshold = (1 - strength.abs()).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 1 - images, images)


def _autocontrast(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1e-6), images)


RECOLOURING = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
}
