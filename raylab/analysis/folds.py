"""From families with models in the same folds to what the folds share and the luck of training.

A fold whose images are harder (other persons, other cameras) moves all families alike. That is luck
of the images, which tells no family from another; what a fold does to one family and not to the
others is the luck of that training (two-way analysis of variance, families x folds, weighted by
images). All is in shares of a family's binomial variance: harder images cost a family that is
nearly always right less.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import Floats
from raylab.analysis.variances import Marks, out_of_line


@dataclass(frozen=True)
class FoldLuck:
    """What m families with a score in each of the same F folds scatter by, in shares."""

    spread: Floats
    """(m,) variance of a fold's accuracy that the other families do not share."""
    noise: Floats
    """(m,) what of it the sampling of images explains."""
    df: Floats
    """(m,) degrees of freedom of the spread."""
    shared: float
    """Variance of a score over all folds that all families share, beyond the sampling of images."""
    doubt: float
    """What `satterthwaite` asks of it."""


class Folds:
    """Images in folds of any size: means and variances with the images' weights."""

    def __init__(self, folds: npt.NDArray[np.int16]) -> None:
        """folds: (N,), the fold of each image, at least two of them."""
        _, self.of_image, self.sizes = np.unique(folds, return_inverse=True, return_counts=True)
        self.num_images = len(folds)
        self.weights = self.sizes / self.num_images
        self.squares = float((self.weights**2).sum())
        cubes = float((self.weights**3).sum())
        self.df = (1 - self.squares) ** 2 / (self.squares - 2 * cubes + self.squares**2)
        """F - 1 of equal folds, fewer where one is most of the images (Satterthwaite 1946)."""

    def means(self, images: Floats) -> Floats:
        """(..., F) from (..., N)."""
        rows = images.reshape(-1, self.num_images)
        sums = np.stack([np.bincount(self.of_image, row) for row in rows])
        return (sums / self.sizes).reshape(*images.shape[:-1], -1)

    def centred(self, scores: Floats) -> Floats:
        """(..., F) less its mean."""
        return scores - (scores @ self.weights)[..., None]

    def variance(self, scores: Floats) -> Floats:
        """(...) of a fold's score, from (..., F)."""
        found: Floats = self.centred(scores) ** 2 @ self.weights / (1 - self.squares)
        return found

    def sampling(self, images: Floats) -> Floats:
        """(...) what of that variance the images within the folds make, from (..., N)."""
        num_folds = len(self.sizes)
        inside = images - self.means(images)[..., self.of_image]
        of_image: Floats = (inside**2).sum(axis=-1) / max(self.num_images - num_folds, 1)
        return of_image * (num_folds - 1) / self.num_images / (1 - self.squares)


def fold_luck(correct: Floats, binomial: Floats, folds: npt.NDArray[np.int16]) -> FoldLuck | None:
    """From correct (m, N), 0..1, each family's variance of one image (m,), and the fold of each
    image (N,); m, F >= 2.

    None where less than two families are in line with each other: nothing tells what is shared.
    """
    inside = Folds(folds)
    scaled = correct / np.sqrt(binomial)[:, None]
    scores = inside.means(scaled)  # (m, F)
    norm = _norm(scores, inside)
    num = int(norm.sum())
    if num < 2:
        return None
    # One of the norm moves it by 1 / num of its own luck; one that is apart does not.
    left = np.where(norm, (num - 1) / num, 1 + 1 / num)
    together = scaled[norm].mean(axis=0)
    spread = inside.variance(scores - inside.means(together)) / left
    noise = np.stack([inside.sampling(row - together) for row in scaled]) / left
    training = max(0.0, float((spread - noise)[norm].mean())) / num
    gross = float(inside.variance(inside.means(together)))
    shared = max(0.0, gross - float(inside.sampling(together)) - training)
    return FoldLuck(
        spread=spread,
        noise=noise,
        df=inside.df * np.where(norm, left, 1.0),
        shared=shared * inside.squares,
        doubt=gross * inside.squares / math.sqrt(inside.df) if shared else 0.0,
    )


def _norm(scores: Floats, inside: Folds) -> Marks:
    """(m,) the families that say what the folds share: not those with a diverged model, which is
    far from the median one's course over the folds, or (of few families) has a course of its own.
    """
    df = np.full(len(scores), inside.df)
    norm = np.ones(len(scores), dtype=np.bool_)
    for own in (scores, scores - np.median(inside.centred(scores), axis=0)):
        norm &= ~out_of_line(inside.variance(own), df, 1 / inside.num_images)
    return norm
