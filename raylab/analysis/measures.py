"""From a trial's predictions to what each validation image adds to its metric, more being better.

The mean over the images is the metric, and their scatter says how far it hangs on which images
were drawn. F1 is no mean over images: each counts with its influence on it (Hampel 1974).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.analysis.predictions import TrialPredictions
from raylab.config.sweep import metric_mode

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ImageScores:
    """One trial's metric, image by image."""

    image_ids: npt.NDArray[np.str_]
    """(N,), sorted."""
    scores: Floats
    """(N,)"""


def image_scores(trial: TrialPredictions, metric: str) -> ImageScores:
    """metric: one of MEASURES; a loss is taken with a minus."""
    return ImageScores(trial.image_ids, MEASURES[metric](trial))


def sign_of(metric: str) -> int:
    """-1 where less of the metric is better."""
    return -1 if metric_mode(metric) == "min" else 1


def judged_text(judged_by: str, ranked_by: str) -> str:
    """`judged by val_loss, as the sweep ranks; …`: of axes or levers, and in which unit."""
    if judged_by != ranked_by:
        return (
            f"judged by {judged_by}, though the sweep ranks by {ranked_by}, which only a reading "
            "of all trials' predictions (at most 500 are read) could judge, if it is of images at "
            "all; the next grid settles nothing by it"
        )
    unit = "; a point is 0.01 of it, and plus means less" if sign_of(judged_by) < 0 else ""
    return f"judged by {judged_by}, as the sweep ranks{unit}"


def _right(trial: TrialPredictions) -> Floats:
    return trial.correct.astype(np.float64)


def _log_probs(trial: TrialPredictions) -> Floats:
    """Of the label: the cross-entropy's negative."""
    of_label = trial.probs[np.arange(len(trial.labels)), trial.labels]
    least = np.finfo(np.float32).tiny
    return np.log(np.maximum(of_label, least).astype(np.float64))


def _f1_influence(trial: TrialPredictions) -> Floats:
    labels, guesses, num_classes = trial.labels, trial.probs.argmax(axis=1), len(trial.classes)
    hits = np.bincount(labels[trial.correct], minlength=num_classes)
    both = np.bincount(labels, minlength=num_classes) + np.bincount(guesses, minlength=num_classes)
    num_known, both = int((both > 0).sum()), np.maximum(both, 1)
    f1 = 2 * hits / both
    own = (2 * trial.correct - f1[labels]) / both[labels] - f1[guesses] / both[guesses]
    influence: Floats = f1.sum() / num_known + len(labels) * own / num_known
    return influence


MEASURES = {"val_accuracy": _right, "val_macro_f1": _f1_influence, "val_loss": _log_probs}
"""Metrics that are measured on validation images one by one."""
