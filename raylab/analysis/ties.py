"""From joint scores to which families may be the best one."""

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import Floats
from raylab.analysis.joint import JointScores
from raylab.analysis.variances import satterthwaite

# Chance that any family which is as good as the best is marked as worse.
LEVEL = 0.05
# Errors of images are only nearly Gaussian, and their size is estimated: aimed at 5 %, it came to
# 5.5 % in simulations. What is left of it covers families that are out of the question unpaired.
AIM = 0.04
NUM_DRAWS = 5_000


def tied_with_best(
    scores: JointScores,
    rng: np.random.Generator,
    level: float = AIM,
    num_draws: int = NUM_DRAWS,
) -> npt.NDArray[np.bool_]:
    """(m,) whether the family is not shown to be worse than the best; the best itself is tied.

    Each family's distance from the best is taken in standard errors of the paired difference.
    It is judged against the greatest such distance between any two families if all were equal,
    drawn from their joint distribution (multivariate t), which allows for the number of families
    and for the best having been picked after looking. Families found worse leave, and the rest is
    judged again: the model confidence set of Hansen, Lunde and Nason (2011) with the stepwise
    argument of Romano and Wolf (2005). So all families truly best are marked tied together with
    a chance of at least 1 - level.
    """
    best = int(scores.means.argmax())
    errors = _standard_errors(scores)
    lead = _ratio(scores.means[best] - scores.means, errors[best])
    draws = _draws(scores, errors, rng, num_draws)
    tied = np.ones(len(scores.means), dtype=np.bool_)
    while tied.sum() > 1:
        kept = tied & (lead <= _critical(draws[:, tied], errors[np.ix_(tied, tied)], level))
        if kept.sum() == tied.sum():
            break
        tied = kept
    return tied


def _standard_errors(scores: JointScores) -> Floats:
    """(m, m) of the paired differences; 0 between families that are right on the same images."""
    total = scores.total
    own = np.diag(total)
    errors: Floats = np.sqrt(np.maximum(own[:, None] + own[None] - 2 * total, 0.0))
    errors[errors < 1e-9] = 0.0  # rounding: one image in a million is 1e-6
    return errors


def _draws(scores: JointScores, errors: Floats, rng: np.random.Generator, num_draws: int) -> Floats:
    """(B, m) errors of the scores if all were equal, heavier in the tails where seeds are few."""
    zeros = np.zeros(len(scores.means))
    draws = rng.multivariate_normal(zeros, scores.total, num_draws, "ignore", method="eigh")
    if not scores.has_seed_luck or len(zeros) < 2:
        return draws
    pairs = np.triu_indices(len(zeros), 1)
    doubt = scores.doubt[pairs[0]] + scores.doubt[pairs[1]]
    df = float(np.median(satterthwaite(errors[pairs] ** 2, doubt)))
    if not np.isfinite(df):
        return draws
    return draws / np.sqrt(rng.chisquare(df, (num_draws, 1)) / df)


def _critical(draws: Floats, errors: Floats, level: float) -> float:
    """The distance that the most distant pair of equal families passes in `level` of the draws."""
    greatest = np.zeros(len(draws))
    for c in range(draws.shape[1] - 1):
        distance = _ratio(np.abs(draws[:, c + 1 :] - draws[:, c : c + 1]), errors[c, c + 1 :])
        greatest = np.maximum(greatest, distance.max(axis=1))
    return float(np.quantile(greatest, 1 - level))


def _ratio(differences: Floats, errors: Floats) -> Floats:
    """Differences in standard errors; what has no error has no difference either: 0."""
    return np.where(errors > 0, differences / np.where(errors > 0, errors, 1.0), 0.0)
