"""From counts to the interval that says how far an accuracy can be trusted."""

from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(num_right: int, num_tried: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share, (low, high) in 0..1; nothing tried tells nothing: (0, 1).

    Wilson (1927) and not the normal approximation: it stays inside 0..1 and holds near 0 and 1
    (Brown, Cai and DasGupta 2001). Not Clopper-Pearson, which covers more than it says. Written
    out, since loading scipy would take longer than most commands.
    """
    if num_tried == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = num_right / num_tried, 1 + z**2 / num_tried
    middle = (share + z**2 / (2 * num_tried)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / num_tried + z**2 / (4 * num_tried**2))
    low = 0.0 if num_right == 0 else middle - half  # not a hair above, which rounding makes of it
    high = 1.0 if num_right == num_tried else middle + half
    return low, high
