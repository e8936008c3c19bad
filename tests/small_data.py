"""Learnable synthetic images for the training tests: a class is a bright place; no file is read."""

import numpy as np
import torch

from raylab.training.worker import TrainingData


def small_data(
    num_train: int = 48, num_val: int = 32, side: int = 16, channels: int = 3, classes: int = 4
) -> TrainingData:
    """Class k's bright patch stands at place k; class 0 is twice as frequent."""
    rng = np.random.default_rng(0)
    labels = rng.choice(
        classes, num_train + num_val, p=[2 / (classes + 1)] + [1 / (classes + 1)] * (classes - 1)
    )
    images = rng.integers(0, 130, (len(labels), side, side, channels))
    half = side // 2
    for image, label in zip(images, labels, strict=True):
        top, left = (label // 2 % 2) * half, (label % 2) * half
        image[top : top + half, left : left + half] += 60
    rows = np.arange(len(labels))
    return TrainingData(
        images=torch.from_numpy(images.astype(np.uint8)),
        labels=labels.astype(np.int64),
        train_rows=rows[:num_train],
        val_rows=rows[num_train:],
        classes=tuple(f"c{k}" for k in range(classes)),
    )
