"""From counts to the interval that says how far an accuracy can be trusted."""

from scipy.stats import binomtest

CONFIDENCE = 0.95


def wilson(num_right: int, num_tried: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share, (low, high) in 0..1; nothing tried tells nothing: (0, 1).

    Wilson and not the normal approximation: it stays inside 0..1 and holds near 0 and 1.
    """
    if num_tried == 0:
        return 0.0, 1.0
    interval = binomtest(num_right, num_tried).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
