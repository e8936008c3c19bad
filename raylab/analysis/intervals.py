"""Wilson's interval where images are not all, or not independently, informative."""

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads scipy.special, a fifth of a second, when it is first asked for

from raylab.results.intervals import CONFIDENCE

Floats = npt.NDArray[np.float64]


def score_interval(
    share: Any, num_effective: Any, df: Any, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Wilson's interval with an effective number of images and Student's t; arrays of any shape.

    `share`: 0..1; `num_effective`: images whose binomial variance equals the variance of the
    share, as in Dean and Pagano (2015); `df`: degrees of freedom of that variance, inf = known.
    """
    p, n, df = np.broadcast_arrays(
        np.asarray(share, float), np.asarray(num_effective, float), np.asarray(df, float)
    )
    z = student_quantile(df, (1 + confidence) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def student_quantile(df: Floats, tail: float) -> Floats:
    """Student's t that is passed from below with the chance `tail`; df inf: the normal one."""
    # stdtrit knows no infinity; a million degrees of freedom are not told from it.
    z, is_finite = np.full(df.shape, NormalDist().inv_cdf(tail)), ~(df > 1e6)
    if is_finite.any():
        z[is_finite] = scipy.special.stdtrit(df[is_finite], tail)
    return z


def binomial_variance(share: Any, num_images: Any) -> Any:
    """p (1 - p), never 0: half an image of either kind is added, as no share is known for sure."""
    p = (share * num_images + 0.5) / (num_images + 1)
    return p * (1 - p)
