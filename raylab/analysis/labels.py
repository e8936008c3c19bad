"""From out-of-sample probabilities to label quality: noise, ceiling, and the suspicious images.

N = images, K = classes.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from cleanlab.count import estimate_joint
from cleanlab.rank import get_label_quality_scores

from raylab.analysis.finding import Confidence
from raylab.analysis.noise import Array, NoiseFit, bootstrap_rates, fit_noise, wrong_per_class
from raylab.analysis.outofsample import OutOfSample

CLEAR_NOISE = 0.01
MAX_CLASSES = 30  # a matrix over 2K² parameters: 5 s here, half an hour and 12 GiB at 100 classes
MIN_IMAGES = 100
MIN_IMAGES_PER_CLASS = 5
SUSPICIOUS = 0.5
SURE = 0.9  # a model that is hardly ever this sure cannot tell its doubt from label noise
MEDIUM_SURE_FRAC, HIGH_SURE_FRAC = 0.2, 0.5


@dataclass(frozen=True)
class LabelQuality:
    """What is estimated about the labels of these images."""

    fit: NoiseFit
    rate: float
    """Share of wrong labels."""
    rate_low: float
    rate_high: float
    """95 % bootstrap interval over the images, widened by the doubt about the model's form.

    Below also by one image per entry of the noise matrix: so much noise a fit finds in none, as a
    simulation shows (140 to 5,000 clean images of 7 classes, models right on 64 and 85 %).
    """
    wrong_per_class: Array
    """(K,) share of wrong labels among the images that carry the label."""
    wrong_per_class_low: Array
    """Bootstrap, and below also by one image per entry of the class's column, as `rate_low`."""
    wrong_per_class_high: Array
    matrix_low: Array
    """(K, K) lower ends of P(given j | true i), all of which hold together (Bonferroni), and less
    one image per entry, as `rate_low`."""
    cleanlab_rate: float
    """cleanlab's confident-joint estimate, which counts a weak model's mistakes as noise."""
    true_accuracy: float
    """The averaged model's accuracy against the true classes, as estimated."""
    sure_frac: float
    """Share of the images whose true class the model knows with a probability above 0.9."""
    suspicion: Array
    """(N,) P(the given label is wrong) under the best fit: unless `is_clear`, an image that the
    models dispute may as well be a hard one.
    """
    label_quality: Array
    """(N,) cleanlab's self-confidence score on the calibrated probabilities, 0..1."""

    @property
    def ceiling(self) -> float:
        """Accuracy that a perfect classifier of the true classes reaches against these labels."""
        return 1 - self.rate

    @property
    def is_clear(self) -> bool:
        """Whether labels are wrong beyond doubt: on few images a weak model's errors look alike."""
        return self.rate_low > CLEAR_NOISE

    @property
    def num_suspects(self) -> int:
        """Images that `suspects` lists."""
        return int((self.suspicion > SUSPICIOUS).sum())

    @property
    def confidence(self) -> Confidence:
        """How far the model's doubt and the labels' noise could be told apart."""
        if self.sure_frac < MEDIUM_SURE_FRAC:
            return "low"
        return "high" if self.sure_frac >= HIGH_SURE_FRAC else "medium"


def can_be_judged(seen: OutOfSample) -> bool:
    """Whether every class has the few images that an estimate needs, and classes are few."""
    if len(seen.classes) > MAX_CLASSES:
        return False
    counts = np.bincount(seen.labels, minlength=len(seen.classes))
    return len(seen.labels) >= MIN_IMAGES and int(counts.min()) >= MIN_IMAGES_PER_CLASS


def estimate_quality(seen: OutOfSample) -> LabelQuality:
    """Noise, ceiling and suspects; needs `can_be_judged`."""
    probs, labels = seen.probs, seen.labels
    fit = fit_noise(probs, labels)
    num_classes = probs.shape[1]
    per_class = wrong_per_class(fit.right, labels, num_classes)
    rates, matrices = bootstrap_rates(labels, fit)
    low, high = basic_interval(np.append(per_class, fit.rate), rates)
    guess = probs.argmax(axis=1)
    found_in_none = fit.matrix.size / len(labels)
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return LabelQuality(
        fit=fit,
        rate=fit.rate,
        rate_low=max(0.0, fit.rate - math.hypot(fit.rate - low[-1], fit.doubt) - found_in_none),
        rate_high=min(1.0, fit.rate + math.hypot(high[-1] - fit.rate, fit.doubt)),
        wrong_per_class=per_class,
        wrong_per_class_low=np.clip(low[:-1] - num_classes / counts, 0, 1),
        wrong_per_class_high=high[:-1],
        matrix_low=_matrix_low(fit, matrices),
        cleanlab_rate=float(1 - np.trace(estimate_joint(labels, probs))),
        true_accuracy=float(fit.clean[np.arange(len(labels)), guess].mean()),
        sure_frac=float((fit.clean.max(axis=1) > SURE).mean()),
        suspicion=1 - fit.right,
        label_quality=get_label_quality_scores(labels, fit.clean),
    )


def _matrix_low(fit: NoiseFit, redrawn: Array) -> Array:
    """redrawn: (B, K, K)."""
    num_classes = len(fit.matrix)
    z = NormalDist().inv_cdf(1 - 0.025 / max(num_classes * (num_classes - 1), 1))
    shown = np.maximum(fit.true.sum(axis=0), 1)[:, None]
    low: Array = np.clip(fit.matrix - z * redrawn.std(axis=0) - 1 / shown, 0, 1)
    return low


def basic_interval(estimates: Array, redrawn: Array) -> tuple[Array, Array]:
    """(M,) ends of the 95 % basic bootstrap interval; redrawn: (B, M).

    Basic, not percentile: a rate near 0 is overestimated, the redrawn ones once more, and the
    basic interval reflects that back. It always holds the estimate.
    """
    low, high = np.nanquantile(redrawn, [0.025, 0.975], axis=0)
    ends = 2 * estimates - high, 2 * estimates - low
    return (
        np.clip(np.minimum(ends[0], estimates), 0, 1),
        np.clip(np.maximum(ends[1], estimates), 0, 1),
    )


def suspects(seen: OutOfSample, quality: LabelQuality, images: pd.DataFrame) -> pd.DataFrame:
    """The images whose label is more likely wrong than right, the most suspicious first.

    Columns: image_id, path, label, suggested_label, wrong_probability, label_quality (cleanlab's,
    0..1), num_trials (that validated the image), wrong_frac (of them). images: image_id, path.
    """
    others = quality.fit.true.copy()
    others[np.arange(len(seen.labels)), seen.labels] = -1
    classes = np.asarray(seen.classes)
    table = pd.DataFrame(
        {
            "image_id": seen.image_ids,
            "label": classes[seen.labels],
            "suggested_label": classes[others.argmax(axis=1)],
            "wrong_probability": quality.suspicion,
            "label_quality": quality.label_quality,
            "num_trials": seen.num_trials,
            "wrong_frac": seen.wrong_frac,
        }
    )
    table = table[table["wrong_probability"] > SUSPICIOUS].merge(
        images[["image_id", "path"]], on="image_id", how="left"
    )
    table.insert(1, "path", table.pop("path"))
    by = ["wrong_probability", "label_quality", "image_id"]
    return table.sort_values(by, ascending=[False, True, True], ignore_index=True)
