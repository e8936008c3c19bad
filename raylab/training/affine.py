"""Affine maps of a batch: (B, 3, 3) matrices from a place in the new image to the place it is
read from, both in -1..1; B = images."""

import torch
from torch.nn import functional


def stack_matrix(rows: list[torch.Tensor], zero: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """(B, 3, 3) from the six numbers (B,) of its upper two rows."""
    return torch.stack([*rows, zero, zero, one], dim=1).view(-1, 3, 3)


def resample(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Bilinear; beyond the border the image is mirrored, so that no black corner is learned."""
    grid = functional.affine_grid(matrix[:, :2], list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
