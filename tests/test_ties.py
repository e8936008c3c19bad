"""Marks of ties: equals are hardly ever told apart, and what is worse is found."""

import numpy as np
import pytest
from simulated_sweeps import SEED_LUCK, simulate, sweep

from raylab.analysis.ties import tied_with_best


def family_wise_error(num_sweeps: int, m: int, S: int, n: int, luck: float, draws: int) -> float:
    """Share of sweeps of equal configs in which any is marked as worse."""
    rng = np.random.default_rng(m * 10 + S)
    wrong = 0
    for _ in range(num_sweeps):
        scores = sweep(simulate(rng, [0.65] * m, S, n, luck))
        wrong += not tied_with_best(scores, rng, num_draws=draws).all()
    return wrong / num_sweeps


@pytest.mark.parametrize("S", [1, 3])
def test_config_five_points_worse_on_3000_images_is_not_tied(S: int) -> None:
    rng = np.random.default_rng(S)
    luck = SEED_LUCK if S > 1 else 0.0
    for _ in range(10):
        scores = sweep(simulate(rng, [0.65] * 9 + [0.60], S, 3_000, luck))
        tied = tied_with_best(scores, rng, num_draws=1_000)
        assert not tied[9]
        assert tied[:9].sum() >= 8


def test_the_best_is_tied_with_itself_and_with_its_copy() -> None:
    right = simulate(np.random.default_rng(0), [0.65, 0.4], 1, 2_000)
    scores = sweep(np.stack([right[0], right[0], right[1]]))
    assert tied_with_best(scores, np.random.default_rng(0)).tolist() == [True, True, False]


def test_single_family_is_tied() -> None:
    scores = sweep(simulate(np.random.default_rng(0), [0.65], 3, 500))
    assert tied_with_best(scores, np.random.default_rng(0)).tolist() == [True]


def test_pairs_on_the_same_images_tell_more_than_intervals_do() -> None:
    """2 points apart with nearly the same errors: the intervals overlap, the pairs tell."""
    rng = np.random.default_rng(0)
    best = rng.random(2_000) < 0.65
    worse = best.copy()
    worse[np.flatnonzero(best)[:40]] = False
    scores = sweep(np.stack([best, worse])[:, None])
    low, high = scores.intervals()
    assert high[1] > low[0]
    assert tied_with_best(scores, rng).tolist() == [True, False]


def test_equals_are_rarely_told_apart() -> None:
    assert family_wise_error(150, 6, 1, 500, 0.0, 500) <= 0.05 + 0.036  # two standard errors


@pytest.mark.slow
@pytest.mark.parametrize(("m", "S", "luck"), [(2, 1, 0.0), (30, 3, SEED_LUCK)])
def test_family_wise_error_is_at_most_5_percent_of_500_sweeps(m: int, S: int, luck: float) -> None:
    share = family_wise_error(500, m, S, 1_000, luck, 1_000)
    print(f"family-wise error configs={m} seeds={S} luck={luck}: {share:.4f}")
    assert share <= 0.05 + 0.0195  # two standard errors
