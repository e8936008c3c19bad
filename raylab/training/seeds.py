"""From (seed, purpose, epoch, rank) to a generator's seed, so that no random state is ever saved.

An epoch's randomness depends on these four alone: a resumed trial draws what it would have drawn.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What the numbers are drawn for; streams of different purposes are independent."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    MIX = 3
    DROPOUT = 4
    AVERAGE = 5


def seed_of(seed: int, purpose: Purpose, epoch: int = 0, rank: int = 0) -> int:
    """A seed in 0..2**63-1 for torch or numpy."""
    words = np.random.SeedSequence((seed, int(purpose), epoch, rank)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
