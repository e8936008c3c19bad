"""Results directories whose truth is known: wrong labels, effects of axes, copies in a split."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raylab.config.trial import TrialConfig
from raylab.images.toy import EMOTIONS
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from

NUM_CLASSES = len(EMOTIONS)


def symmetric(wrong: float) -> np.ndarray:
    """(K, K) noise matrix: a wrong label is any other one."""
    other = wrong / (NUM_CLASSES - 1)
    return np.where(np.eye(NUM_CLASSES, dtype=bool), 1 - wrong, other)


def one_pair(share: float) -> np.ndarray:
    """(K, K) noise matrix: `share` of fear is labelled surprise."""
    matrix = np.eye(NUM_CLASSES)
    fear, surprise = EMOTIONS.index("fear"), EMOTIONS.index("surprise")
    matrix[fear, fear], matrix[fear, surprise] = 1 - share, share
    return matrix


def given_labels(rng: np.random.Generator, true: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N,) labels drawn by the rows of the noise matrix."""
    edges = matrix[true].cumsum(axis=1)
    return (rng.random(len(true))[:, None] > edges).sum(axis=1).clip(max=NUM_CLASSES - 1)


def model_probs(
    rng: np.random.Generator, true: np.ndarray, matrix: np.ndarray, strength: float = 3.0
) -> np.ndarray:
    """(N, K) what a good model says that learned from such labels: its doubt, then their noise.

    A class's feature lies `strength` standard deviations above the others'.
    """
    features = rng.standard_normal((len(true), NUM_CLASSES))
    features[np.arange(len(true)), true] += strength
    logits = strength * features
    clean = np.exp(logits - logits.max(axis=1, keepdims=True))
    clean /= clean.sum(axis=1, keepdims=True)
    blurred = np.log(clean @ matrix + 1e-6) + rng.normal(0, 0.3, clean.shape)
    probs = np.exp(blurred)
    return probs / probs.sum(axis=1, keepdims=True)


def curve(final: float, num_epochs: int, noise: Callable[[], float]) -> list[dict[str, Any]]:
    """Epochs that saturate at about `final`."""
    rows = []
    for epoch in range(1, num_epochs + 1):
        accuracy = final - 0.4 * np.exp(-epoch / 2) + noise()
        rows.append(
            {
                "epoch": epoch,
                "train_loss": 1.2 - accuracy,
                "train_accuracy": accuracy + 0.03,
                "val_loss": 1.3 - accuracy,
                "val_accuracy": accuracy,
                "val_macro_f1": accuracy - 0.02,
                "seconds": 1.0,
            }
        )
    return rows


def add_trial(
    results: ResultsDirectory,
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    status: str = "complete",
    predicted: tuple[Sequence[str], np.ndarray, np.ndarray] | None = None,
    split: str = "split0",
) -> str:
    """Keeps one trial; predicted: image_ids, labels (N,) and probs (N, K). Returns its id."""
    trial = TrialConfig(**config)
    num_val = 1000 if predicted is None else len(predicted[0])
    record = record_from(trial, "data", split, rows, status, num_train=1000, num_val=num_val)
    results.add(record)
    if predicted is not None:
        ids, labels, probs = predicted
        names = [EMOTIONS[label] for label in labels]
        results.write_predictions(record.trial_id, ids, names, probs, EMOTIONS)
    return record.trial_id


def write_images(
    results: ResultsDirectory,
    image_ids: Sequence[str],
    labels: np.ndarray,
    sides: Sequence[str],
    contents: Sequence[str] | None = None,
    split: str = "split0",
) -> None:
    """images.parquet and one split; contents: sha256 per image, by default all different."""
    names = [EMOTIONS[label] for label in labels]
    results.write_images(
        pa.table(
            {
                "image_id": list(image_ids),
                "path": [f"{n}/{i}.png" for n, i in zip(names, image_ids, strict=True)],
                "label": names,
                "sha256": list(contents or image_ids),
                "status": ["ok"] * len(names),
            }
        )
    )
    results.write_split(split, pa.table({"image_id": list(image_ids), "split": list(sides)}))


def empty_results(directory: Path, **grid: Any) -> ResultsDirectory:
    """A directory with its grid."""
    results = ResultsDirectory(directory)
    defaults = {"name": "planted", "data": "toy", "trial": {"model": "cnn"}, "seeds": [0]}
    results.write_grid({**defaults, **grid})
    return results
