"""Colour arithmetic on a batch: images are float32 (B, C, H, W), 0..1; factors are (B,)."""

import torch

GREY = (0.299, 0.587, 0.114)


def grey(images: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, i : i + 1] * weight for i, weight in enumerate(GREY))
    return red + green + blue


def brighten(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is black, 1 changes nothing."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is the image's mean grey, 1 changes nothing."""
    mean = grey(images).mean((2, 3), keepdim=True)
    return mean.lerp(images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def saturate(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is grey, 1 changes nothing; grey images have no colour to change."""
    if images.shape[1] == 1:
        return images
    return grey(images).lerp(images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)
