"""From the families that validated the same images to their scores and how these err together.

One Gaussian model of the scores carries intervals, ties and the winner's correction. Family c is
right on image i, averaged over its trials, in x_ci of the cases; its score is the mean over n
images. With folds f of n_f images and S_f trials each,

    Var(score_c) = Var_i(x_ci) / n  +  seed_variance_c * sum_f (n_f / n)**2 / S_f
    Cov(score_c, score_d) = Cov_i(x_ci, x_di) / n

The first term is the luck of the images (with what seeds add to single images), the second the
luck of the training, which more images do not lessen. The seed variance is what the accuracies of
trials that differ in the seed alone vary beyond what their images explain (two-way analysis of
variance, images x seeds; without a second seed, fold against fold, see `folds`), pooled over the
families that are in line (see `variances`) in shares of the binomial variance p (1 - p): what is
nearly always right varies less from seed to seed. What a fold does to all families alike is added
to the variances and covariances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.analysis.folds import fold_luck
from raylab.analysis.intervals import Floats, binomial_variance, score_interval
from raylab.analysis.predictions import TrialPredictions
from raylab.analysis.variances import Marks, out_of_line, pooled, pooled_df, satterthwaite


@dataclass(frozen=True)
class FamilyScore:
    """How often one family is right on each image, and how its trials scatter."""

    family_id: str
    image_ids: npt.NDArray[np.str_]
    """(N,), sorted."""
    correct: Floats
    """(N,), 0..1, mean over the trials that validated the image."""
    spread: float
    """Variance of the accuracies of trials that differ in the seed (or the fold) alone."""
    noise: float
    """What of the spread the sampling of images explains."""
    df: int
    """Degrees of freedom of the spread; 0 with a single trial."""
    weight: float
    """sum_f (n_f / n)**2 / S_f: the share of a trial's seed variance left in the mean."""
    folds: npt.NDArray[np.int16] | None
    """(N,), the fold of each image, numbered as they first come; None if there is but one."""
    has_seeds: bool
    """Whether a fold has several; else the spread is that of folds."""


@dataclass(frozen=True)
class JointScores:
    """The scores of m families on the same images as one Gaussian."""

    family_ids: tuple[str, ...]
    means: Floats
    """(m,), 0..1."""
    covariance: Floats
    """(m, m), of the luck of the images, in folds that are harder for all families too."""
    seed_variance: Floats
    """(m,), of the luck of the training; 0 if no family has a second trial."""
    seed_error: Floats
    """(m,), the seed variance before the images' part was taken off: what it was measured from."""
    df: Floats
    """(m,), degrees of freedom of the seed variance; inf if there is none."""
    apart: Marks
    """(m,), whose seeds are out of line with the others', and not pooled with them."""
    num_images: int
    image_doubt: Floats
    """(m,), what `satterthwaite` asks of the folds' part of the covariance."""

    @property
    def total(self) -> Floats:
        """(m, m) covariance of the scores."""
        return self.covariance + np.diag(self.seed_variance)

    @property
    def has_seed_luck(self) -> bool:
        """Whether any family told what the seed does."""
        return bool(np.isfinite(self.df).any())

    @property
    def doubt(self) -> Floats:
        """(m,), what `satterthwaite` asks of the seed variance."""
        return self.seed_error / np.sqrt(self.df)

    def intervals(self) -> tuple[Floats, Floats]:
        """95 % interval of each family, (m,) and (m,), with luck of images and of training.

        With single trials it is Wilson's.
        """
        n, binomial = self.num_images, binomial_variance(self.means, self.num_images)
        # What was right on all images has no variance over them, and is yet not sure to be right.
        unseen = (binomial - self.means * (1 - self.means)) / n
        variance = np.diag(self.total) + unseen
        df = satterthwaite(variance, self.doubt + self.image_doubt)
        return score_interval(self.means, binomial / variance, df)


def score(family_id: str, trials: Sequence[TrialPredictions]) -> FamilyScore:
    """The family's score from its trials: seeds of one fold share their images, folds do not."""
    folds: dict[bytes, list[TrialPredictions]] = {}
    for trial in trials:
        folds.setdefault(trial.image_ids.tobytes(), []).append(trial)
    return score_of(
        family_id,
        [fold[0].image_ids for fold in folds.values()],
        [np.stack([trial.correct for trial in fold]) for fold in folds.values()],
    )


def score_of(
    family_id: str,
    image_ids: Sequence[npt.NDArray[np.str_]],
    right: Sequence[npt.NDArray[np.bool_]],
) -> FamilyScore:
    """The score from each fold's image_ids (n,) and which seed was right on which, right (S, n)."""
    ids = np.concatenate(image_ids)
    correct = np.concatenate([fold.mean(axis=0) for fold in right])
    order = np.argsort(ids, kind="stable")
    has_seeds = any(len(fold) > 1 for fold in right)
    folds = np.repeat(np.arange(len(right), dtype=np.int16), [fold.shape[1] for fold in right])
    spread, noise, df = _over_seeds(right) if has_seeds else _over_folds(right)
    return FamilyScore(
        family_id=family_id,
        image_ids=ids[order],
        correct=correct[order],
        spread=spread,
        noise=noise,
        df=df,
        weight=sum((fold.shape[1] / len(ids)) ** 2 / fold.shape[0] for fold in right),
        folds=_numbered(folds[order]) if len(right) > 1 else None,
        has_seeds=has_seeds,
    )


def joint(families: Sequence[FamilyScore]) -> JointScores:
    """The families' scores together; ValueError unless all validated the same images."""
    first = families[0].image_ids
    if any(not np.array_equal(family.image_ids, first) for family in families):
        raise ValueError("families that validated different images cannot be paired")
    correct = np.stack([family.correct for family in families])  # (m, N)
    means = correct.mean(axis=1)
    spread, noise, df, weight = np.array([[f.spread, f.noise, f.df, f.weight] for f in families]).T
    binomial = binomial_variance(means, len(first))
    of_images = np.atleast_2d(np.cov(correct, bias=True)) / len(first)
    image_doubt = np.zeros(len(families))
    spread, noise = spread / binomial, noise / binomial
    has_seeds = np.array([family.has_seeds for family in families])
    if has_seeds.any():
        df = np.where(has_seeds, df, 0)  # seeds say it without the difficulty of folds
    folds = _common_folds(families)
    luck = None if folds is None else fold_luck(correct, binomial, folds)
    if luck is not None:
        of_images += luck.shared * np.sqrt(np.outer(binomial, binomial))
        image_doubt = luck.doubt * binomial
        if not has_seeds.any():
            spread, noise, df = luck.spread, luck.noise, luck.df
    apart = out_of_line(spread, df, 1 / len(first))
    spread, noise = (binomial * pooled(part, df, apart) for part in (spread, noise))
    return JointScores(
        family_ids=tuple(family.family_id for family in families),
        means=means,
        covariance=of_images,
        seed_variance=np.maximum(spread - noise, 0.0) * weight,
        seed_error=np.maximum(spread, noise) * weight,
        df=pooled_df(df, apart),
        apart=apart,
        num_images=len(first),
        image_doubt=image_doubt,
    )


def _common_folds(families: Sequence[FamilyScore]) -> npt.NDArray[np.int16] | None:
    """(N,), if there are several families, all in the same folds."""
    first = families[0].folds
    if first is None or len(families) < 2:
        return None
    is_common = all(
        other.folds is not None and np.array_equal(other.folds, first) for other in families[1:]
    )
    return first if is_common else None


def _numbered(folds: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """The folds by the order in which they first come."""
    _, places, inverse = np.unique(folds, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(places)).astype(np.int16)
    return ranks[inverse]


def _over_seeds(right: Sequence[npt.NDArray[np.bool_]]) -> tuple[float, float, int]:
    """Spread, noise and df from the folds with several seeds; each (S, n)."""
    several = [fold for fold in right if len(fold) > 1]
    df = sum(len(fold) - 1 for fold in several)
    spread = noise = 0.0
    for fold in several:
        seeds = fold.mean(axis=1, keepdims=True)
        rest = fold - seeds - fold.mean(axis=0) + fold.mean()
        spread += float(((seeds - seeds.mean()) ** 2).sum()) / df
        noise += float((rest**2).sum()) / max(fold.shape[1] - 1, 1) / fold.shape[1] / df
    return spread, noise, df


def _over_folds(right: Sequence[npt.NDArray[np.bool_]]) -> tuple[float, float, int]:
    """Spread, noise and df of folds with one model each; a single trial tells nothing: zeros."""
    if len(right) < 2:
        return 0.0, 0.0, 0
    spread = float(np.var([fold.mean() for fold in right], ddof=1))
    noise = float(np.mean([fold.var() / fold.shape[1] for fold in right]))
    return spread, noise, len(right) - 1
