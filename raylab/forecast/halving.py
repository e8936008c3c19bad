"""What share of the epochs ASHA (Li et al. 2020) leaves, when nothing is known of the trials yet.

Trials of unknown worth are played through Ray's rules: at a rung a trial stops that is below the
quantile 1 - 1/reduction_factor of those that came there before it.
"""

import bisect
import random
from collections.abc import Sequence

from raylab.config.sweep import Scheduler
from raylab.forecast.spread import Spread

NUM_PLAYS = 40
MAX_PLAYED = 400
"""Of more trials the share hardly differs."""


def expected_share(scheduler: Scheduler, epochs: Sequence[int]) -> Spread:
    """Epochs that run over epochs that are planned; `epochs`: of each trial, in their order.

    The worth of a trial is drawn once and holds at every rung, in no relation to its place in the
    order: a grid that runs its good trials first stops more, one that ends with them less.
    """
    played = epochs[:MAX_PLAYED]
    if scheduler.kind == "none" or not played:
        return Spread(1.0, 1.0, 1.0)
    rungs = scheduler.rungs(max(played))
    shares = [_play(played, rungs, scheduler, random.Random(i)) for i in range(NUM_PLAYS)]
    return Spread.of(shares)


def _play(
    epochs: Sequence[int], rungs: list[int], scheduler: Scheduler, rng: random.Random
) -> float:
    seen: list[list[float]] = [[] for _ in rungs]
    num_run = 0
    for planned in epochs:
        worth, last = rng.random(), planned
        for rung, earlier in zip(rungs, seen, strict=True):
            if rung > planned:
                break
            is_weak = bool(earlier) and worth < _cutoff(earlier, scheduler.reduction_factor)
            bisect.insort(earlier, worth)
            if is_weak and rung < planned:
                last = rung
                break
        num_run += last
    return num_run / sum(epochs)


def _cutoff(ordered: list[float], factor: int) -> float:
    """The quantile 1 - 1/factor, interpolated as numpy does."""
    place = (1 - 1 / factor) * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
