"""Family scores: the interval covers what it says, with the luck of images and of seeds in it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from simulated_sweeps import SEED_LUCK, family, simulate, sweep

from raylab.analysis.joint import JointScores, joint, score_of
from raylab.analysis.ties import tied_with_best
from raylab.analysis.winner import corrected_best
from raylab.results.intervals import wilson


def coverage(num_sweeps: int, truth: float, m: int, S: int, n: int, luck: float) -> float:
    rng = np.random.default_rng(n + S)
    hits = []
    for _ in range(num_sweeps):
        low, high = sweep(simulate(rng, [truth] * m, S, n, luck)).intervals()
        hits.append((low <= truth) & (truth <= high))
    return float(np.mean(hits))


def test_interval_of_single_trials_is_wilsons() -> None:
    right = simulate(np.random.default_rng(0), [0.65, 0.99], 1, 200)
    low, high = sweep(right).intervals()
    for c in range(2):
        assert (low[c], high[c]) == pytest.approx(wilson(int(right[c].sum()), 200))


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_perfect_family_keeps_wilsons_interval(num_seeds: int) -> None:
    low, high = joint([family(np.ones((num_seeds, 50), bool))]).intervals()
    assert (low[0], high[0]) == pytest.approx(wilson(50, 50))


def test_more_images_do_not_shrink_the_luck_of_the_seed() -> None:
    rng = np.random.default_rng(0)
    luck = [sweep(simulate(rng, [0.65] * 6, 3, n, 0.1)).seed_variance[0] for n in (1_000, 16_000)]
    # sd of one seed is about 0.1 * density at the threshold = 0.037; of the mean of three 0.021
    assert np.sqrt(luck) == pytest.approx(0.021, rel=0.4)


def test_seeds_without_luck_of_their_own_add_next_to_nothing() -> None:
    scores = sweep(simulate(np.random.default_rng(0), [0.65] * 10, 3, 3_000))
    assert scores.seed_variance[0] < 0.2 * scores.covariance[0, 0]


def test_single_seed_gets_the_seed_luck_that_the_others_show() -> None:
    rng = np.random.default_rng(0)
    right = simulate(rng, [0.65] * 6, 4, 2_000, 0.1)
    scores = joint([family(right[0][:1], "one"), *[family(r, "four") for r in right[1:]]])
    # near enough alike accuracies: the share of p (1 - p) is the same
    assert scores.seed_variance[0] == pytest.approx(4 * scores.seed_variance[1], rel=0.05)


def test_a_diverged_seed_of_one_family_leaves_the_others_as_they_were() -> None:
    rng = np.random.default_rng(0)
    right = simulate(rng, [0.75, 0.74, 0.72, 0.7, 0.68, 0.65], 3, 3_500, SEED_LUCK)
    before = np.array(sweep(right).intervals())
    right[5, 0] = rng.random(3_500) < 0.14
    scores = sweep(right)
    assert scores.apart.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(np.array(scores.intervals())[:, :5], before[:, :5], atol=0.005)


def test_an_unsteady_family_keeps_a_variance_of_its_own() -> None:
    rng = np.random.default_rng(0)
    steady = simulate(rng, [0.7] * 7, 3, 2_000, 0.01)
    unsteady = simulate(rng, [0.5, 0.7, 0.9], 1, 2_000)[:, 0]
    scores = sweep(np.concatenate([steady, unsteady[None]]))
    assert scores.seed_variance[7] > 50 * scores.seed_variance[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("right", [True, False])
def test_a_family_right_on_all_images_or_none_has_an_interval_beside_others(right: bool) -> None:
    others = simulate(np.random.default_rng(0), [0.94, 0.85], 2, 200, 0.1)
    low, high = sweep(np.concatenate([np.full((1, 2, 200), right), others])).intervals()
    assert (low[0] if right else 1 - high[0]) > 0.6
    assert (high[0] if right else low[0]) == pytest.approx(float(right))


def test_a_nearly_perfect_family_is_not_as_unsteady_as_a_weak_one() -> None:
    steady = np.arange(200) >= np.array([[1], [0], [1]])
    weak = np.arange(200) >= np.array([[10], [30], [50]])
    low, _ = sweep(np.stack([steady, weak])).intervals()
    assert low[0] > 0.8


def test_folds_tell_the_luck_of_training_where_there_is_one_seed() -> None:
    rng = np.random.default_rng(0)
    parts = [simulate(rng, [p], 1, 2_000)[0] for p in (0.5, 0.6, 0.7, 0.6, 0.6)]
    scores = joint([family(np.concatenate(parts, axis=1), num_folds=5)])
    assert scores.means[0] == pytest.approx(0.6, abs=0.02)
    # fold accuracies vary with sd 0.071: their mean with 0.071 / sqrt(5)
    assert np.sqrt(scores.seed_variance[0]) == pytest.approx(0.032, rel=0.25)
    assert scores.df == 4


FOLDS = (0.6, 0.7, 0.65, 0.72, 0.58)
"""What the images of each fold, of other persons, let every config reach."""


def in_folds(gaps: Sequence[float], n: int = 500, seed: int = 0) -> npt.NDArray[np.bool_]:
    """(m, 1, 5 n): configs with one model per fold, `gaps` below what the fold lets them reach."""
    rng = np.random.default_rng(seed)
    return np.concatenate([simulate(rng, p - np.array(gaps), 1, n, 0.005) for p in FOLDS], axis=2)


def together(right: npt.NDArray[np.bool_]) -> JointScores:
    return joint([family(config, f"family{c}", num_folds=5) for c, config in enumerate(right)])


def test_folds_that_are_harder_for_all_are_luck_of_the_images_and_tell_no_family_apart() -> None:
    alone = joint([family(in_folds([0.0])[0], num_folds=5)])
    scores = together(in_folds([0.0, 0.0, 0.0, 0.05, 0.05]))
    assert scores.seed_variance.max() < 0.1 * alone.seed_variance[0]
    assert scores.total[0, 0] == pytest.approx(alone.total[0, 0], rel=0.3)
    tied = tied_with_best(scores, np.random.default_rng(0), num_draws=1_000)
    assert tied.tolist() == [True, True, True, False, False]
    assert corrected_best(scores, np.random.default_rng(0)).score == pytest.approx(0.65, abs=0.02)


def test_a_model_that_diverged_in_one_fold_leaves_the_other_families_as_they_were() -> None:
    right = in_folds([0.0, 0.01, 0.02, 0.03, 0.04])
    before = np.array(together(right).intervals())
    right[4, 0, :500] = np.random.default_rng(1).random(500) < 0.14
    scores = together(right)
    assert scores.apart.tolist() == [False] * 4 + [True]
    np.testing.assert_allclose(np.array(scores.intervals())[:, :4], before[:, :4], atol=0.015)


def test_of_two_families_the_diverged_one_says_nothing_of_the_other() -> None:
    right = in_folds([0.0, 0.01])
    right[1, 0, :500] = np.random.default_rng(1).random(500) < 0.14
    scores = together(right)
    assert scores.apart.tolist() == [False, True]
    low, high = scores.intervals()
    assert high[0] - low[0] < 0.15 < high[1] - low[1]


def cut(right: npt.NDArray[np.bool_], sizes: Sequence[int]) -> JointScores:
    """right (m, S, n) in folds of these sizes."""
    ids = np.array([f"{i:04d}" for i in range(sum(sizes))])
    ends = np.cumsum(sizes)[:-1]
    return joint(
        [score_of("c", np.split(ids, ends), np.split(config, ends, axis=1)) for config in right]
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sizes", [(1, 499, 500, 500), (1,) * 30, (750, 750)])
def test_folds_of_any_size_have_finite_intervals_and_a_tiny_one_says_little(
    sizes: tuple[int, ...],
) -> None:
    right = simulate(np.random.default_rng(0), [0.7, 0.69, 0.66], 1, sum(sizes))
    low, high = cut(right, sizes).intervals()
    plain_low, plain_high = sweep(right).intervals()
    assert (high - low < 2.1 * (plain_high - plain_low)).all()
    tied = tied_with_best(cut(right, sizes), np.random.default_rng(0), num_draws=200)
    assert tied[:2].all()  # a point apart


def test_a_family_right_on_all_images_is_not_as_moved_by_folds_as_weak_ones() -> None:
    right = in_folds([0.0, 0.02], n=100)
    low, _ = together(np.concatenate([np.ones((1, 1, 500), bool), right])).intervals()
    assert low[0] > 0.9


def test_more_seeds_keep_the_difficulty_of_folds_in_the_interval() -> None:
    one = in_folds([0.0] * 4, n=400)
    more = np.concatenate([one, in_folds([0.0] * 4, n=400, seed=1)], axis=1)
    low, high = together(one).intervals()
    both_low, both_high = together(more).intervals()
    assert (both_high - both_low > 0.8 * (high - low)).all()


def test_families_with_one_seed_hear_of_others_seeds_and_not_of_folds() -> None:
    one = in_folds([0.0, 0.0, 0.09, 0.09], n=400)
    more = np.concatenate([one[:1], in_folds([0.0], n=400, seed=1)], axis=1)
    scores = joint([family(config, num_folds=5) for config in (more[0], *one[1:])])
    assert scores.seed_variance.max() < 0.015**2  # a fold moves them by 0.06 / sqrt(5)
    tied = tied_with_best(scores, np.random.default_rng(0), num_draws=1_000)
    assert tied.tolist() == [True, True, False, False]


def test_folds_are_told_by_their_images_and_not_by_the_order_of_the_trials() -> None:
    right, ids = in_folds([0.0, 0.02]), np.array([f"{i:04d}" for i in range(2_500)])
    parts = np.array_split(np.arange(2_500), 5)
    scores = [
        score_of(name, [ids[parts[k]] for k in order], [config[:, parts[k]] for k in order])
        for name, config, order in zip("ab", right, (range(5), (3, 0, 4, 1, 2)), strict=True)
    ]
    np.testing.assert_allclose(joint(scores).total, together(right).total)


def test_families_on_other_images_are_not_put_together() -> None:
    a, b = (family(np.ones((1, n), bool)) for n in (50, 51))
    with pytest.raises(ValueError, match="cannot be paired"):
        joint([a, b])


@pytest.mark.parametrize("S", [1, 3])
def test_interval_covers_the_truth_in_95_of_100_sweeps(S: int) -> None:
    assert coverage(150, 0.65, 6, S, 700, SEED_LUCK if S > 1 else 0.0) == pytest.approx(
        0.95, abs=0.025
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth", "S", "luck", "n"),
    [
        (0.9, 1, 0.0, 300),
        (0.65, 2, SEED_LUCK, 3_000),
        (0.65, 3, 0.05, 3_000),
        (0.65, 5, SEED_LUCK, 300),
    ],
)
def test_interval_covers_between_93_and_97_percent_of_1000_sweeps(
    truth: float, S: int, luck: float, n: int
) -> None:
    share = coverage(1_000, truth, 6, S, n, luck)
    print(f"coverage p={truth} seeds={S} luck={luck} images={n}: {share:.4f}")
    assert 0.93 <= share <= 0.97
