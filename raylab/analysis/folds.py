"""From families with one model per fold to the luck of their training, less what the folds share.

A fold whose images are harder (other persons, other cameras) moves all families alike. That is luck
of the images, which tells no family from another; what a fold does to one family and not to the
others is the luck of that training (two-way analysis of variance, families x folds).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import Floats, binomial_variance
from raylab.analysis.variances import Marks, out_of_line


@dataclass(frozen=True)
class FoldLuck:
    """What m families with one model in each of the same F folds scatter by."""

    spread: Floats
    """(m,) variance of a fold's accuracy that the other families do not share."""
    noise: Floats
    """(m,) what of it the sampling of images explains."""
    df: Floats
    """(m,) degrees of freedom of the spread."""
    shared: float
    """Variance of a fold's accuracy that all families share, beyond the sampling of images."""
    num_folds: int


def fold_luck(correct: Floats, folds: npt.NDArray[np.int16]) -> FoldLuck | None:
    """From correct (m, N), 0..1, and the number of each image's fold (N,); m, F >= 2.

    None where less than two families are in line with each other: nothing tells what is shared.
    """
    num_images = correct.shape[1]
    parts = [correct[:, folds == fold] for fold in np.unique(folds)]
    scores = np.stack([part.mean(axis=1) for part in parts], axis=1)  # (m, F)
    norm = _norm(scores, binomial_variance(correct.mean(axis=1), num_images), num_images)
    num, last = int(norm.sum()), len(parts) - 1
    if num < 2:
        return None
    # One of the norm moves it by 1 / num of its own luck; one that is apart does not.
    left = np.where(norm, (num - 1) / num, 1 + 1 / num)
    own = _centred(scores - scores[norm].mean(axis=0))
    images = [part - part[norm].mean(axis=0) for part in parts]
    noise = np.mean([_sampling(each) for each in images], axis=0) / left
    spread = (own**2).sum(axis=1) / last / left
    together = scores[norm].mean(axis=0)
    sampling = float(np.mean([_sampling(part[norm].mean(axis=0)) for part in parts]))
    training = max(0.0, float((spread - noise)[norm].mean())) / num
    return FoldLuck(
        spread=spread,
        noise=noise,
        df=np.where(norm, last * left, last),
        shared=max(0.0, float(together.var(ddof=1)) - sampling - training),
        num_folds=len(parts),
    )


def _norm(scores: Floats, binomial: Floats, num_images: int) -> Marks:
    """(m,) the families that say what the folds share: not those with a diverged model, which is
    far from the median one's course over the folds, or (of few families) has a course of its own.
    """
    centred = _centred(scores)
    df = np.full(len(scores), scores.shape[1] - 1.0)
    norm = np.ones(len(scores), dtype=np.bool_)
    for own in (centred, _centred(scores - np.median(centred, axis=0))):
        norm &= ~out_of_line((own**2).sum(axis=1) / df / binomial, df, 1 / num_images)
    return norm


def _centred(scores: Floats) -> Floats:
    """Each row less its mean."""
    centred: Floats = scores - scores.mean(axis=1, keepdims=True)
    return centred


def _sampling(images: Floats) -> Floats:
    """Variance of the mean over the last axis, the images."""
    variance: Floats = images.var(axis=-1, ddof=1) / images.shape[-1]
    return variance
