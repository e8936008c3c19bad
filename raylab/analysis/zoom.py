"""From an axis's numbers and the good ones among them to the numbers to try next."""

import math
from collections.abc import Sequence
from typing import Any

from raylab.config.fields import field_problems, is_whole_number

MIN_RATIO = 4
"""Values that span more are taken to stand on a logarithmic scale."""
IN_EIGHTS = ("image_size", "batch_size")
"""Hardware and patch sizes like these in multiples of 8: they stay such where they are."""


def zoomed(key: str, values: Sequence[float], good: Sequence[float]) -> list[Any]:
    """The good ones of the values, and half-way to the neighbours of the lowest and the highest of
    them, or beyond where it is the last.

    On a logarithmic scale where the values span it; only what the field allows, whole numbers in
    steps that the values have in common; none of the values that are not good.
    """
    ordered, kept = sorted(set(values)), sorted(set(good))
    if len(ordered) == 1:
        return _allowed(key, kept)
    is_log = ordered[0] > 0 and ordered[-1] / ordered[0] >= MIN_RATIO
    first, last = ordered.index(kept[0]), ordered.index(kept[-1])
    below = (
        _between(ordered[first - 1], kept[0], is_log)
        if first > 0
        else _beyond(kept[0], ordered[1], is_log)
    )
    above = (
        _between(kept[-1], ordered[last + 1], is_log)
        if last + 1 < len(ordered)
        else _beyond(kept[-1], ordered[-2], is_log)
    )
    low, high = _rounded(key, below, kept[0], ordered), _rounded(key, above, kept[-1], ordered)
    bad = set(ordered) - set(kept)
    return _allowed(key, [value for value in (low, *kept, high) if value not in bad])


def rounded(value: float) -> float:
    """Two digits say all that a guess says."""
    return float(f"{value:.2g}")


def _allowed(key: str, values: Sequence[float]) -> list[Any]:
    """Those that the field allows, each once."""
    plain = [round(value) if is_whole_number(key) else value for value in values]
    return list(dict.fromkeys(value for value in plain if not field_problems(key, value)))


def _between(a: float, b: float, is_log: bool) -> float:
    return math.sqrt(a * b) if is_log else (a + b) / 2


def _beyond(best: float, neighbour: float, is_log: bool) -> float:
    """As far from the best as its neighbour, on the other side."""
    return best * best / neighbour if is_log else 2 * best - neighbour


def _rounded(key: str, value: float, near: float, given: Sequence[float]) -> float:
    """Two digits; of a whole number the given ones' common step, or a half, a quarter … of it
    where that leads away from `near`.
    """
    if not is_whole_number(key):
        return rounded(value)
    step = math.gcd(*map(int, given))
    least = 8 if key in IN_EIGHTS and step % 8 == 0 else 1
    while step > max(abs(value - near), least):
        step = max(step // 2, least) if step % 2 == 0 else least
    return round(value / step) * step
