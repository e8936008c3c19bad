"""From stored prediction files to arrays: of one trial, and of a family, averaged per image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylab.results.directory import ResultsDirectory

PREFIX = "p_"
UNREADABLE = (OSError, ValueError, KeyError)
"""What `load_trial` raises where a file is missing, torn or of another form."""


@dataclass(frozen=True)
class TrialPredictions:
    """What one trial said of its validation images at its best epoch."""

    trial_id: str
    image_ids: npt.NDArray[np.str_]
    """(N,), sorted."""
    labels: npt.NDArray[np.int64]
    """(N,), index into classes."""
    classes: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    """(N, K), 0..1, columns in the order of classes."""

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the most probable class is the label."""
        right: npt.NDArray[np.bool_] = self.probs.argmax(axis=1) == self.labels
        return right


@dataclass(frozen=True)
class FamilyPredictions:
    """What the trials of a family said, averaged per image over those that validated it.

    Over folds every image was validated by a model that had not trained on it.
    """

    family_id: str
    image_ids: npt.NDArray[np.str_]
    """(N,), sorted: every image that any trial of the family validated."""
    labels: npt.NDArray[np.int64]
    """(N,), index into classes."""
    classes: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    """(N, K), mean over the trials."""
    correct: npt.NDArray[np.float64]
    """(N,), share of the trials whose most probable class is the label."""
    num_seeds: int
    """The most trials that validated one image."""


def load_trial(results: ResultsDirectory, trial_id: str) -> TrialPredictions:
    """The stored predictions of a trial.

    FileNotFoundError if it has none; ValueError if a label is none of the classes.
    """
    table = results.predictions(trial_id).sort_by("image_id")
    columns = [name for name in table.column_names if name.startswith(PREFIX)]
    classes = tuple(name.removeprefix(PREFIX) for name in columns)
    labels = pc.index_in(table["label"], value_set=pa.array(classes, pa.string()))
    if labels.null_count:
        raise ValueError(f"predictions of {trial_id}: a label is none of {', '.join(classes)}")
    return TrialPredictions(
        trial_id=trial_id,
        image_ids=np.array(table["image_id"].to_pylist(), dtype=np.str_),
        labels=labels.to_numpy().astype(np.int64),
        classes=classes,
        probs=np.stack([table[name].to_numpy() for name in columns], axis=1).astype(np.float32),
    )


def load_family(
    results: ResultsDirectory, family_id: str, trial_ids: Sequence[str]
) -> FamilyPredictions:
    """The predictions of these trials as one; FileNotFoundError if one of them has none."""
    return combine(family_id, [load_trial(results, trial_id) for trial_id in trial_ids])


def times_validated(trials: Sequence[TrialPredictions]) -> float:
    """How often an image was validated, in the mean: every seed does it again, folds share them."""
    ids = [trial.image_ids for trial in trials]
    return sum(map(len, ids)) / len(np.unique(np.concatenate(ids)))


def combine(family_id: str, trials: Sequence[TrialPredictions]) -> FamilyPredictions:
    """Means per image over the trials; ValueError if there is none or their classes differ."""
    if not trials:
        raise ValueError(f"family {family_id}: no trial to combine")
    classes = trials[0].classes
    if any(trial.classes != classes for trial in trials):
        raise ValueError(f"family {family_id}: its trials know different classes")
    ids = np.concatenate([trial.image_ids for trial in trials])
    image_ids, first, rows, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    probs = np.zeros((len(image_ids), len(classes)))
    np.add.at(probs, rows, np.concatenate([trial.probs for trial in trials]))
    right = np.concatenate([trial.correct for trial in trials]).astype(np.float64)
    return FamilyPredictions(
        family_id=family_id,
        image_ids=image_ids,
        labels=np.concatenate([trial.labels for trial in trials])[first],
        classes=classes,
        probs=(probs / counts[:, None]).astype(np.float32),
        correct=np.bincount(rows, weights=right, minlength=len(image_ids)) / counts,
        num_seeds=int(counts.max()),
    )
