"""From pairs of small faces to how well they correlate once one is laid exactly over the other.

Enhanced correlation by Gauss-Newton (Evangelidis & Psarakis, TPAMI 2008), restricted to what a
crop does to an image: a scale and a shift along each axis. Brightness and contrast cancel out.

Legend: M pairs, S px per side. A placement is float32 (M, 4): scale - 1 and shift along x, then
along y, where the image reaches from -1 to 1.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Floats = npt.NDArray[np.float32]

MAX_PLACEMENT = 0.14
"""A crop of 5 % to one side shifts and scales by 0.05 each; 0.14 also holds crops of 10 %."""
RIDGE = 1e-3  # of the mean curvature: faces without edges along one axis do not run away along it
EPSILON = 1e-6


def no_placement(num: int) -> Floats:
    """(num, 4): lies as it lies."""
    return np.zeros((num, 4), dtype=np.float32)


def correlate(fixed: Floats, moved: Floats, start: Floats, num_steps: int) -> tuple[Floats, Floats]:
    """((M,) best correlation -1..1 over the overlap, its placements) of `moved` upon `fixed`.

    fixed, moved: float32 (M, S, S). The search begins at `start` and takes `num_steps` steps.
    """
    if len(fixed) == 0:
        return np.empty(0, dtype=np.float32), start
    placement = start
    best = np.full(len(fixed), -1, dtype=np.float32)
    best_placement = start.copy()
    for step in range(num_steps + 1):
        laid, overlap = _lay(moved, placement)
        target, laid = _normalised(fixed, overlap), _normalised(laid, overlap)
        correlation = np.einsum("mij,mij->m", target, laid)
        better = correlation > best
        best[better], best_placement[better] = correlation[better], placement[better]
        if step < num_steps:
            change = _step(target, laid, overlap, correlation)
            placement = np.clip(placement + change, -MAX_PLACEMENT, MAX_PLACEMENT)
    return best, best_placement


def correlate_details(fixed: Floats, moved: Floats, placement: Floats, blur_px: float) -> Floats:
    """(M,) correlation -1..1 of what a Gaussian of `blur_px` takes away: edges, not light."""
    laid, overlap = _lay(_details(moved, blur_px), placement)
    target = _normalised(_details(fixed, blur_px), overlap)
    return np.asarray(np.einsum("mij,mij->m", target, _normalised(laid, overlap)))


def _details(images: Floats, blur_px: float) -> Floats:
    blurred = gaussian_filter(images, (0, blur_px, blur_px), mode="nearest")
    return np.asarray(images - blurred, dtype=np.float32)


def _axis(side: int) -> Floats:
    return np.linspace(-1, 1, side, dtype=np.float32)


def _lay(images: Floats, placement: Floats) -> tuple[Floats, Floats]:
    """(images resampled linearly (M, S, S), 1 where they reach, else 0)."""
    side = images.shape[1]
    across, inside_x = _resampler(placement[:, 0], placement[:, 1], side)
    down, inside_y = _resampler(placement[:, 2], placement[:, 3], side)
    laid = down @ images @ across.transpose(0, 2, 1)
    overlap = inside_y[:, :, None] * inside_x[:, None, :]
    return laid.astype(np.float32, copy=False), overlap.astype(np.float32, copy=False)


def _resampler(scale: Floats, shift: Floats, side: int) -> tuple[Floats, Floats]:
    """((M, S, S) weights of each source pixel for each target pixel, (M, S) 1 if inside)."""
    place = _axis(side) * (1 + scale[:, None]) + shift[:, None]
    pixel = (place + 1) * ((side - 1) / 2)
    inside = ((pixel >= -0.5) & (pixel <= side - 0.5)).astype(np.float32)
    distance = np.abs(np.clip(pixel, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    return np.maximum(0, 1 - distance), inside


def _normalised(images: Floats, overlap: Floats) -> Floats:
    """Mean 0 and norm 1 over the overlap, 0 outside."""
    mean = np.einsum("mij,mij->m", images, overlap) / overlap.sum((1, 2))
    centred = (images - mean[:, None, None]) * overlap
    norm = np.sqrt(np.einsum("mij,mij->m", centred, centred)) + EPSILON
    return np.asarray(centred / norm[:, None, None], dtype=np.float32)


def _step(target: Floats, laid: Floats, overlap: Floats, correlation: Floats) -> Floats:
    """(M, 4): the change of placement that best explains what is left of the target."""
    num, side, _ = target.shape
    axis, pixel = _axis(side), 2 / (side - 1)
    down, across = (np.gradient(laid, pixel, axis=number) for number in (1, 2))
    slopes = np.stack([across * axis, across, down * axis[:, None], down], axis=1)
    slopes = (slopes * overlap[:, None]).reshape(num, 4, -1)
    inside, unit = overlap.reshape(num, 1, -1), laid.reshape(num, 1, -1)
    # Without what a change of brightness or contrast would explain as well.
    slopes -= inside * (slopes.sum(2) / inside.sum(2))[..., None]
    slopes -= (slopes @ unit.transpose(0, 2, 1)) * unit
    left = target.reshape(num, -1, 1) - correlation[:, None, None] * unit.transpose(0, 2, 1)
    curvature = slopes @ slopes.transpose(0, 2, 1)
    ridge = RIDGE * np.trace(curvature, axis1=1, axis2=2) / 4 + EPSILON
    curvature += ridge[:, None, None] * np.eye(4, dtype=np.float32)
    change = np.linalg.solve(curvature, slopes @ left)[..., 0]
    return np.asarray(change / np.maximum(correlation, 0.3)[:, None], dtype=np.float32)
