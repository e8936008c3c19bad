"""Results directories of invented trials for reports: any classes, any texts, any number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from

CLASSES = ("기쁨 과 웃음", "슬픔", "<script>alert(1)</script>", "a & <b>b</b>")
NUM_IMAGES = 200


def results_of(place: Path, name: str = "invented", **grid: Any) -> ResultsDirectory:
    """A directory with its grid and environment, and no trial yet."""
    results = ResultsDirectory(place)
    given = {"name": name, "data": "toy", "trial": {"model": "cnn"}, "seeds": [0]}
    results.write_grid({**given, **grid})
    results.write_environment({"python": "3.12.1", "packages": {"torch": "2.9"}, "gpus": []})
    return results


def learning(accuracy: float, num_epochs: int, phase: float = 0.0) -> list[dict[str, Any]]:
    """Epochs that end at the accuracy."""
    rows = []
    for epoch in range(1, num_epochs + 1):
        reached = accuracy - 0.35 * np.exp(-2.0 * epoch / num_epochs) + 0.05
        reached = min(accuracy, reached + 0.004 * np.sin(3 * epoch + phase))
        if epoch == num_epochs:
            reached = accuracy
        loss = 1.9 - 1.6 * reached
        row = {"epoch": epoch, "val_accuracy": reached, "val_loss": loss, "val_macro_f1": reached}
        row |= {"train_accuracy": min(1.0, reached + 0.1), "train_loss": 0.8 * loss}
        rows.append(row | {"seconds": 1.0, "train_images_per_s": 900.0})
    return rows


def add(
    results: ResultsDirectory,
    accuracy: float,
    *,
    status: str = "complete",
    num_epochs: int = 6,
    data: str = "data",
    classes: Sequence[str] = CLASSES,
    predicted: bool = True,
    num_images: int = NUM_IMAGES,
    split_fingerprint: str = "split0",
    error: str | None = None,
    start_s: int = 0,
    **config: Any,
) -> str:
    """Keeps one trial whose stored predictions reach the accuracy exactly; returns its id."""
    trial = TrialConfig(**{"model": "cnn", "epochs": 6, **config})
    rows = [] if status == "failed" else learning(accuracy, num_epochs, accuracy)
    record = record_from(
        trial,
        data,
        split_fingerprint,
        rows,
        status,
        num_train=800,
        num_val=num_images,
        seconds=float(num_epochs),
        started_at=f"2025-01-01T00:{start_s // 60:02d}:{start_s % 60:02d}+00:00",
        error_kind="ValueError" if error else None,
        error=error,
    )
    results.add(record)
    if predicted and status == "complete":
        ids, labels = validated(classes, num_images)
        rng = np.random.default_rng([round(accuracy * 1e6), trial.seed])
        probs = said(rng, labels, len(classes), accuracy)
        names = [classes[label] for label in labels]
        results.write_predictions(record.trial_id, ids, names, probs, classes)
    return record.trial_id


def validated(classes: Sequence[str], num_images: int = NUM_IMAGES) -> tuple[list[str], np.ndarray]:
    """(N) image ids and (N,) labels."""
    labels = np.arange(num_images) % len(classes)
    return [f"image{i:04d}" for i in range(num_images)], labels


def said(
    rng: np.random.Generator, labels: np.ndarray, num_classes: int, accuracy: float
) -> np.ndarray:
    """(N, K) probabilities whose best guess is right in that share of the images."""
    hardness = np.arange(len(labels)) * 7919 % len(labels) + 25 * rng.random(len(labels))
    hardness = np.argsort(hardness)
    wrong = hardness[round(accuracy * len(labels)) :]
    guess = labels.copy()
    guess[wrong] = (labels[wrong] + 1) % num_classes
    probs = rng.random((len(labels), num_classes)) * 0.1
    probs[np.arange(len(labels)), guess] += rng.uniform(0.3, 3.0, len(labels))
    return probs / probs.sum(axis=1, keepdims=True)


def write_images(
    results: ResultsDirectory, classes: Sequence[str], more: Sequence[Mapping[str, str]] = ()
) -> None:
    """images.parquet of the validated images and of `more` rows."""
    ids, labels = validated(classes)
    rows = [
        {
            "image_id": image_id,
            "path": f"{classes[label]}/{image_id}.png",
            "label": classes[label],
            "sha256": image_id,
            "status": "ok",
        }
        for image_id, label in zip(ids, labels, strict=True)
    ]
    results.write_images(pa.Table.from_pylist([*rows, *more]))


def usual(place: Path, name: str = "invented", data: str = "data") -> ResultsDirectory:
    """Two axes, two seeds, one failure, names that are markup, Korean classes."""
    axes = {"augment": ["none", "light"], "lr": [1e-2, 1e-3, 1e-4]}
    results = results_of(place, name, axes=axes, seeds=[0, 1])
    gains = {"none": 0.0, "light": 0.03, 1e-2: -0.12, 1e-3: 0.0, 1e-4: -0.06}
    for i, lr in enumerate(axes["lr"]):
        for augment in axes["augment"]:
            for seed in (0, 1):
                accuracy = round(0.78 + gains[augment] + gains[lr] + 0.005 * seed, 4)
                config = {"augment": augment, "lr": lr, "seed": seed, "start_s": 10 * i}
                add(results, accuracy, data=data, **config)
    add(
        results,
        0.0,
        status="failed",
        data=data,
        error="<img src=x onerror=alert(2)> is no image (log: somewhere)",
        lr=1e-3,
        augment="none",
        seed=2,
    )
    write_images(results, CLASSES)
    results.flush()
    return results
