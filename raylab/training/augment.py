"""Random operations on a batch of training images, on its device, drawn anew for every image.

B = batch, C = channels, H = W = side in px; images are float32 (B, C, H, W), 0..1.
All geometry (flip, rotation, shift, crop, shear) is one affine resampling; AugMix adds its own.
"""

import math

import torch

from raylab.config.trial import AugmentConfig
from raylab.training.affine import stack_matrix
from raylab.training.colour import brighten, contrast, saturate
from raylab.training.operations import Draw, Drawn
from raylab.training.policies import augmix, draw_randaugment, draw_trivial, transform

CROP_RATIO = (3 / 4, 4 / 3)  # width to height, as torchvision's RandomResizedCrop
ERASE_AREA_FRAC = (0.02, 0.2)
ERASE_RATIO = (0.3, 3.3)  # as in Zhong et al. 2020


class Augment:
    """What an `augment` config does to a batch."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        crops = min(config.crop_scale, config.crop_frac) < 1
        draws_operations = config.trivial or config.randaugment_num_ops > 0
        resamples = bool(config.rotate_deg or config.shift_frac or crops or draws_operations)
        self.flips_only = config.flip > 0 and not resamples
        self.moves = self.flips_only or resamples

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A new batch, 0..1; `generator` lives on the images' device."""
        config, num_images = self.config, len(images)

        def draw(low: float, high: float) -> torch.Tensor:
            unit = torch.rand(num_images, generator=generator, device=images.device)
            return unit * (high - low) + low

        layers = self._layers(images.shape[-1], draw)
        if self.flips_only:
            flipped = draw(0, 1) < config.flip
            images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        elif self.moves:
            images = transform(images, layers, self._matrix(draw))
        if config.augmix_severity > 0:
            images = augmix(images, config.augmix_severity, draw)
        if config.jitter > 0:
            images = jitter(images, config.jitter, draw)
        if config.erase > 0:
            images = erase(images, config.erase, draw, generator)
        return images

    def _layers(self, side: int, draw: Draw) -> list[Drawn]:
        config = self.config
        trivial = [draw_trivial(side, draw)] if config.trivial else []
        return trivial + draw_randaugment(
            config.randaugment_num_ops, config.randaugment_magnitude, draw
        )

    def _matrix(self, draw: Draw) -> torch.Tensor:
        """(B, 3, 3): from a place in the new image to the place it is read from, -1..1."""
        config = self.config
        mirror = 1 - 2 * (draw(0, 1) < config.flip).float()
        angle = draw(-config.rotate_deg, config.rotate_deg) * (math.pi / 180)
        shift_x = 2 * draw(-config.shift_frac, config.shift_frac)
        shift_y = 2 * draw(-config.shift_frac, config.shift_frac)
        area = draw(config.crop_scale, 1) * config.crop_frac**2
        # The longer side is cut to the image's: of more freedom than this, below crop_scale.
        room = min(math.log(CROP_RATIO[1]), -math.log(config.crop_scale))
        ratio = draw(-room, room).exp()
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        centre_x, centre_y = draw(-1, 1) * (1 - width), draw(-1, 1) * (1 - height)
        cos, sin = angle.cos(), angle.sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        crop = stack_matrix([width * mirror, zero, centre_x, zero, height, centre_y], zero, one)
        turn = stack_matrix([cos, -sin, shift_x, sin, cos, shift_y], zero, one)
        return turn @ crop


def jitter(images: torch.Tensor, strength: float, draw: Draw) -> torch.Tensor:
    """Brightness, contrast and saturation, each by a factor from 1 - strength to 1 + strength."""
    low, high = 1 - strength, 1 + strength
    images = brighten(images, draw(low, high))
    images = contrast(images, draw(low, high))
    return saturate(images, draw(low, high))


def erase(
    images: torch.Tensor, probability: float, draw: Draw, generator: torch.Generator
) -> torch.Tensor:
    """A rectangle of noise in some images, wholly inside them."""
    height, width = images.shape[2:]
    chosen = draw(0, 1) < probability
    area = draw(*ERASE_AREA_FRAC)
    ratio = draw(math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])).exp()
    tall = (area * ratio).sqrt().clamp(max=1) * height
    wide = (area / ratio).sqrt().clamp(max=1) * width
    top, left = draw(0, 1) * (height - tall), draw(0, 1) * (width - wide)
    inside_y = _between(torch.arange(height, device=images.device), top, top + tall)
    inside_x = _between(torch.arange(width, device=images.device), left, left + wide)
    mask = inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None]  # (B, H, W)
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    return torch.where(mask[:, None], noise, images)


def _between(places: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """bool (B, places): whether a pixel's centre lies in the image's interval."""
    centre = places + 0.5
    return (centre >= low[:, None]) & (centre < high[:, None])
