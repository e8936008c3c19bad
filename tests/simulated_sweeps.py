"""Sweeps whose truth is known: which images each config's seeds get right, as networks do it.

An image is right where difficulty (shared by all configs), a config's own taste, the chance of a
seed, and the seed's overall luck add up to more than a threshold. Two configs agree on about as
many images as two real networks do (correlation 0.4 to 0.5; seeds of one config 0.5 to 0.6).
"""

import functools
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from raylab.analysis.joint import FamilyScore, JointScores, joint, score_of

OF_IMAGES, OF_CONFIG = 0.75, 0.35
OF_CHANCE = (1 - OF_IMAGES**2 - OF_CONFIG**2) ** 0.5
# 0.015 moves an accuracy of 0.65 by 0.55 points (one standard deviation), as seeds do on FER2013.
SEED_LUCK = 0.015


def simulate(
    rng: np.random.Generator,
    accuracies: Sequence[float] | npt.NDArray[np.float64],
    num_seeds: int,
    num_images: int,
    seed_luck: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """(m, S, n) right or wrong; config c's expected accuracy is exactly accuracies[c]."""
    m, S, n = len(accuracies), num_seeds, num_images
    scale = (1 + seed_luck**2) ** 0.5
    threshold = np.array([NormalDist().inv_cdf(1 - p) * scale for p in accuracies], np.float32)
    latent = rng.standard_normal((m, S, n), dtype=np.float32) * np.float32(OF_CHANCE)
    latent += rng.standard_normal((m, 1, n), dtype=np.float32) * np.float32(OF_CONFIG)
    latent += rng.standard_normal(n, dtype=np.float32) * np.float32(OF_IMAGES)
    latent += rng.standard_normal((m, S, 1), dtype=np.float32) * np.float32(seed_luck)
    return latent > threshold[:, None, None]


@functools.cache
def image_ids(num_images: int) -> npt.NDArray[np.str_]:
    """As many sorted names."""
    return np.array([f"{i:07d}" for i in range(num_images)])


def family(right: npt.NDArray[np.bool_], name: str = "family", num_folds: int = 1) -> FamilyScore:
    """The score of right (S, n); with folds, its images are cut into parts."""
    ids = image_ids(right.shape[1])
    parts = np.array_split(np.arange(len(ids)), num_folds)
    return score_of(name, [ids[part] for part in parts], [right[:, part] for part in parts])


def sweep(right: npt.NDArray[np.bool_]) -> JointScores:
    """The joint scores of right (m, S, n)."""
    return joint([family(config, f"family{c}") for c, config in enumerate(right)])
