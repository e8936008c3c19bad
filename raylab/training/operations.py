"""The operations that automatic augmentation draws from, each on the images that drew it.

B = batch; images are float32 (B, C, H, W), 0..1. `equalize` is left out of every published list,
as its histograms do not batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from raylab.training.affine import stack_matrix
from raylab.training.colour import brighten, contrast, saturate

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
"""`draw(low, high)` gives float (B,), even in [low, high)."""


@dataclass(frozen=True)
class Space:
    """What a strength of 1 means to each operation."""

    rotate_deg: float
    shear: float
    shift_frac: float
    factor: float
    """Of brightness, contrast, saturation and sharpness, below and above 1."""
    bits: tuple[int, int]
    """Left by posterize at strengths 1 and 0."""


@dataclass(frozen=True)
class Drawn:
    """One operation for every image. operation: int64 (B,); strength: float (B,), -1..1."""

    operation: torch.Tensor
    strength: torch.Tensor
    space: Space

    def amount(self, name: str) -> torch.Tensor:
        """(B,): the strength where this operation was drawn, else 0."""
        return self.strength * (self.operation == OPERATIONS.index(name))

    @property
    def matrix(self) -> torch.Tensor:
        """(B, 3, 3) of the geometric operations; the identity for all others."""
        space = self.space
        angle = self.amount("rotate") * (space.rotate_deg * math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        shear_x, shear_y = (
            self.amount("shear_x") * space.shear,
            self.amount("shear_y") * space.shear,
        )
        shift_x = self.amount("shift_x") * space.shift_frac
        shift_y = self.amount("shift_y") * space.shift_frac
        # No image has two operations, so the sum of the parts is the one that was drawn.
        rows = [cos, shear_x - sin, 2 * shift_x, sin + shear_y, cos, 2 * shift_y]
        return stack_matrix(rows, torch.zeros_like(cos), torch.ones_like(cos))

    def recolour(self, images: torch.Tensor) -> torch.Tensor:
        """The other operations, each on the images that drew it."""
        for name, operation in RECOLOURING.items():
            chosen = self.operation == OPERATIONS.index(name)
            images = _apply(images, chosen, self.strength, self.space, operation)
        return images


Recolour = Callable[[torch.Tensor, torch.Tensor, Space], torch.Tensor]


def _apply(
    images: torch.Tensor,
    chosen: torch.Tensor,
    strength: torch.Tensor,
    space: Space,
    operation: Recolour,
) -> torch.Tensor:
    """A CPU computes the chosen images only; a GPU all, since choosing would make it wait."""
    if images.device.type != "cpu":
        return torch.where(chosen.view(-1, 1, 1, 1), operation(images, strength, space), images)
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    return images.index_copy(0, rows, operation(images[rows], strength[rows], space))


def _brightness(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    return brighten(images, 1 + space.factor * strength)


def _contrast(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    return contrast(images, 1 + space.factor * strength)


def _saturation(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    return saturate(images, 1 + space.factor * strength)


def _sharpness(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    channels = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5  # PIL's SMOOTH filter
    weight = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    smooth = functional.conv2d(padded, weight, groups=channels)
    return smooth.lerp(images, (1 + space.factor * strength).view(-1, 1, 1, 1)).clamp_(0, 1)


def _posterize(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    low, high = space.bits
    bits = high - ((high - low) * strength.abs()).round()
    levels = (2**bits).view(-1, 1, 1, 1)
    return (images * 255 / 256 * levels).floor() / levels


def _solarize(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    threshold = (1 - strength.abs()).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 1 - images, images)


def _autocontrast(images: torch.Tensor, strength: torch.Tensor, space: Space) -> torch.Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1e-6), images)


RECOLOURING: dict[str, Recolour] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
}
