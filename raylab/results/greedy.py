"""From what many models said of the same images to the weights of their best mean.

M = models, N = images. Values in, values out; nothing is trained.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

MAX_STEPS = 100
MIN_PROB = 1e-7
"""A model that is sure of another class is not infinitely wrong."""


def greedy_weights(of_label: Floats, max_models: int) -> Floats:
    """(M,) that add up to 1: greedy ensemble selection with replacement (Caruana et al. 2004).

    of_label: (M, N), what each model gave the true class, 0..1; the most accurate model first. It
    begins with so many of the first models as make the best equal mean, and adds, again and again,
    the one with which the mean has the lowest log loss, as long as that falls; at most `max_models`
    different ones. Log loss counts how far off an image is, and so follows the luck of single
    images less than accuracy does; begun with one model, it would stop early at what suits that
    one (the paper's sorted initialisation).
    """
    sums = np.cumsum(of_label[:max_models], axis=0)
    sizes = np.arange(1, len(sums) + 1)[:, None]
    num_first = int(_log_loss(sums / sizes).argmin()) + 1
    counts = np.where(np.arange(len(of_label)) < num_first, 1.0, 0.0)
    total, loss = sums[num_first - 1], np.inf
    for num in range(num_first, MAX_STEPS):
        loss = min(loss, float(_log_loss(total / num)))
        losses = _log_loss((total + of_label) / (num + 1))
        if np.count_nonzero(counts) == max_models:
            losses[counts == 0] = np.inf
        best = int(losses.argmin())
        if losses[best] >= loss:
            break
        counts[best] += 1
        total = total + of_label[best]
    weights: Floats = counts / counts.sum()
    return weights


def _log_loss(of_label: Floats) -> Floats:
    """Over the last axis, the images."""
    losses: Floats = -np.log(np.maximum(of_label, MIN_PROB)).mean(axis=-1)
    return losses


def label_probs(tables: Iterable[pa.Table]) -> tuple[npt.NDArray[np.str_], Floats]:
    """Image ids (N,), sorted, and (N,) what the true class was given, from stored predictions.

    tables: of one model, or of its folds, which validate each image once.
    """
    ids: list[str] = []
    probs: list[Floats] = []
    for table in tables:
        labels = np.array(table["label"].to_pylist(), dtype=np.str_)
        given = np.zeros(table.num_rows)
        for name in np.unique(labels):
            rows = labels == name
            given[rows] = table[f"p_{name}"].to_numpy()[rows]
        ids += table["image_id"].to_pylist()
        probs.append(given)
    order = np.argsort(ids, kind="stable")
    return np.array(ids, dtype=np.str_)[order], np.concatenate(probs)[order]
