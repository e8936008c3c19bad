"""From many trials' predictions to one opinion per image, by models that never saw the image.

N = images that at least one trial validated, K = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from raylab.analysis.predictions import TrialPredictions


@dataclass(frozen=True)
class OutOfSample:
    """What the trials together say about each image."""

    image_ids: npt.NDArray[np.str_]
    """(N,), sorted."""
    labels: npt.NDArray[np.int64]
    """(N,), as given."""
    classes: tuple[str, ...]
    probs: npt.NDArray[np.float64]
    """(N, K): mean over the trials that validated the image."""
    num_trials: npt.NDArray[np.int64]
    """(N,) trials that validated the image."""
    wrong_frac: npt.NDArray[np.float64]
    """(N,) share of them whose best guess is not the label."""

    @property
    def accuracy(self) -> float:
        """Share of the images at which the mean of the trials agrees with the label."""
        return float((self.probs.argmax(axis=1) == self.labels).mean())


def average(
    trials: Sequence[TrialPredictions], copied: Mapping[str, frozenset[str]] | None = None
) -> OutOfSample:
    """The trials' mean per image. At least one trial; all have the same classes.

    copied: per trial_id, validation images whose exact copy the trial trained on: left out there.
    """
    copied = copied or {}
    classes = trials[0].classes
    kept = [np.isin(t.image_ids, list(copied.get(t.trial_id, ())), invert=True) for t in trials]
    ids = [np.asarray(t.image_ids)[keep] for t, keep in zip(trials, kept, strict=True)]
    image_ids = np.unique(np.concatenate(ids))
    probs = np.zeros((len(image_ids), len(classes)))
    labels = np.zeros(len(image_ids), dtype=np.int64)
    counts, wrong = np.zeros(len(image_ids), dtype=np.int64), np.zeros(len(image_ids))
    for trial, keep, own in zip(trials, kept, ids, strict=True):
        rows = np.searchsorted(image_ids, own)
        labels[rows] = trial.labels[keep]
        probs[rows] += trial.probs[keep]
        wrong[rows] += ~trial.correct[keep]
        counts[rows] += 1
    return OutOfSample(image_ids, labels, classes, probs / counts[:, None], counts, wrong / counts)


def better_half(frame: pd.DataFrame) -> list[str]:
    """Trial ids of the better half of the families: weak configs only blur the mean.

    Whole families, so that a cross-validated config keeps all its folds.
    """
    means = frame.groupby("family_id")["val_accuracy"].mean().sort_values(ascending=False)
    best = means.index[: (len(means) + 1) // 2]
    return [str(trial_id) for trial_id in frame.loc[frame["family_id"].isin(best), "trial_id"]]
