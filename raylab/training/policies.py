"""TrivialAugment, RandAugment and AugMix: which operations an image gets, and how strong.

B = batch; images are float32 (B, C, H, W), 0..1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

import torch

from raylab.training.affine import resample
from raylab.training.operations import OPERATIONS, Draw, Drawn, Space

WIDE = Space(rotate_deg=135.0, shear=0.99, shift_frac=0.99, factor=0.99, bits=(2, 8))
"""TrivialAugment's (Müller and Hutter 2021), of images of at most WIDE_SHIFT_PX."""
WIDE_SHIFT_PX = 32
"""So far it shifts images of any size."""
NARROW = Space(rotate_deg=30.0, shear=0.3, shift_frac=150 / 331, factor=0.9, bits=(4, 8))
"""RandAugment's (Cubuk et al. 2020), as torchvision bounds it."""
MIXED = Space(rotate_deg=30.0, shear=0.3, shift_frac=1 / 3, factor=0.0, bits=(0, 4))
"""AugMix's (Hendrycks et al. 2020)."""

MAX_MAGNITUDE = 30
MAX_SEVERITY = 10
NUM_CHAINS = 3
MAX_DEPTH = 3
MIN_SEVERITY = 0.1
AUGMIX_OPERATIONS = tuple(
    OPERATIONS.index(name)
    for name in (
        *("autocontrast", "posterize", "rotate", "solarize"),
        *("shear_x", "shear_y", "shift_x", "shift_y"),
    )
)
"""Without those that the paper leaves to the corruptions it tests on."""


def draw_trivial(side: int, draw: Draw) -> Drawn:
    """One random operation, of a strength drawn evenly (Müller and Hutter 2021); side: in px."""
    operation = _one_of(range(len(OPERATIONS)), draw)
    space = replace(WIDE, shift_frac=min(WIDE.shift_frac, WIDE_SHIFT_PX / side))
    return Drawn(operation, draw(-1, 1), space)


def draw_randaugment(num_ops: int, magnitude: float, draw: Draw) -> list[Drawn]:
    """`num_ops` random operations, all of one magnitude, 0..30 (Cubuk et al. 2020); whichever can
    go either way does so by chance.
    """
    drawn = []
    for _ in range(num_ops):
        operation = _one_of(range(len(OPERATIONS)), draw)
        sign = draw(-1, 1).sign()
        drawn.append(Drawn(operation, sign * (magnitude / MAX_MAGNITUDE), NARROW))
    return drawn


def transform(
    images: torch.Tensor, drawn: Iterable[Drawn], matrix: torch.Tensor | None
) -> torch.Tensor:
    """The drawn operations, one after the other; matrix: (B, 3, 3), geometry before all of them.

    Geometry is gathered into one resampling, which blurs once, and colours follow.
    """
    layers = list(drawn)
    for layer in layers:
        matrix = layer.matrix if matrix is None else matrix @ layer.matrix
    if matrix is not None:
        images = resample(images, matrix)
    for layer in layers:
        images = layer.recolour(images)
    return images


def augmix(images: torch.Tensor, severity: float, draw: Draw) -> torch.Tensor:
    """AugMix (Hendrycks et al. 2020): the image mixed with the mean of three chains of one to three
    operations, all shares drawn per image. The paper's second part, a loss that makes the
    predictions of two mixtures agree (JSD), is not there: the labels alone teach.

    severity: 0..10, the most that an operation is drawn with.
    """
    shares = torch.stack([-draw(0, 1).clamp(min=1e-9).log() for _ in range(NUM_CHAINS)])
    shares = shares / shares.sum(0)  # Dirichlet(1, 1, 1); (chains, B)
    kept = draw(0, 1).view(-1, 1, 1, 1)  # Beta(1, 1)
    mixture = torch.zeros_like(images)
    for share in shares:
        depth = draw(1, MAX_DEPTH + 1).long()
        chain = [_link(position, depth, severity, draw) for position in range(MAX_DEPTH)]
        mixture += share.view(-1, 1, 1, 1) * transform(images, chain, None)
    return mixture.lerp(images, kept).clamp_(0, 1)


def _link(position: int, depth: torch.Tensor, severity: float, draw: Draw) -> Drawn:
    """An operation where the image's chain is still that long, else the identity."""
    operation = _one_of(AUGMIX_OPERATIONS, draw)
    size = draw(min(MIN_SEVERITY, severity), severity) / MAX_SEVERITY
    goes_on = position < depth
    identity = torch.full_like(operation, OPERATIONS.index("identity"))
    return Drawn(torch.where(goes_on, operation, identity), draw(-1, 1).sign() * size, MIXED)


def _one_of(operations: Sequence[int], draw: Draw) -> torch.Tensor:
    """int64 (B,): one of the operations per image."""
    place = draw(0, len(operations)).long().clamp(max=len(operations) - 1)
    if isinstance(operations, range):
        return place
    return _table(tuple(operations), place.device)[place]


@cache
def _table(operations: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """int64: copied once, since a GPU is waited for at every copy."""
    return torch.tensor(operations, device=device)
