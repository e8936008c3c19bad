"""The winner's score: without the luck that made it the winner."""

import numpy as np
import numpy.typing as npt
import pytest
from simulated_sweeps import SEED_LUCK, simulate, sweep

from raylab.analysis.winner import corrected_best, corrected_score


def errors(
    num_sweeps: int, spread: float | None, m: int, S: int, n: int, luck: float, draws: int
) -> npt.NDArray[np.float64]:
    """(sweeps, 2) in points: naive and corrected score minus the winner's true accuracy.

    What the images' difficulty adds to all configs alike is taken off: it is 0 in expectation,
    and fewer sweeps show the same bias. spread None: one config stands 2 points out.
    """
    rng = np.random.default_rng(m + S + n)
    found = []
    for _ in range(num_sweeps):
        if spread is None:
            truth = np.r_[0.67, np.full(m - 1, 0.65)]
        else:
            truth = 0.65 + spread * rng.standard_normal(m)
        scores = sweep(simulate(rng, truth, S, n, luck))
        best = scores.means.argmax()
        target = truth[best] + (scores.means - truth).mean()
        corrected = corrected_score(scores, rng, draws)
        found.append((scores.means[best] - target, corrected - target))
    return 100 * np.array(found)


def test_correction_takes_the_luck_off_equals() -> None:
    naive, corrected = errors(300, 0.0, 10, 1, 500, 0.0, 200).mean(axis=0)
    assert naive > 1.5
    assert abs(corrected) < 0.45  # three standard errors


def test_winner_without_rivals_is_not_corrected() -> None:
    rng = np.random.default_rng(0)
    scores = sweep(simulate(rng, [0.8, 0.4, 0.4], 1, 1_000))
    assert corrected_best(scores, rng).score == pytest.approx(scores.means[0], abs=1e-9)
    alone = sweep(simulate(rng, [0.65], 3, 1_000))
    assert corrected_best(alone, rng).score == pytest.approx(alone.means[0], abs=1e-9)


def test_no_winner_is_worth_more_than_it_scored() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        scores = sweep(simulate(rng, [0.7, 0.6], 2, 60, 0.1))
        assert corrected_best(scores, rng, 200).score <= scores.means.max()


def test_standard_error_is_that_of_repeated_sweeps() -> None:
    rng = np.random.default_rng(0)
    found = [corrected_best(sweep(simulate(rng, [0.65] * 6, 1, 500)), rng, 400) for _ in range(100)]
    told = np.mean([one.standard_error for one in found])
    assert told == pytest.approx(np.std([one.score for one in found]), rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "S", "luck"), [(0.0, 1, 0.0), (None, 3, SEED_LUCK)])
def test_corrected_score_is_unbiased_to_a_tenth_of_a_point(
    spread: float | None, S: int, luck: float
) -> None:
    found = errors(1_500 if S == 1 else 1_000, spread, 30, S, 1_000, luck, 200)
    (naive, corrected), of_mean = found.mean(axis=0), found.std(axis=0) / len(found) ** 0.5
    rms = np.sqrt((found**2).mean(axis=0))
    print(f"spread={spread} seeds={S}: naive and corrected {naive:.3f} {corrected:.3f}")
    print(f"  standard errors {of_mean.round(3)}, root mean squares {rms.round(2)}")
    assert naive > 0.4
    assert abs(corrected) < 0.1
