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

    of_label: (M, N), what each model gave the true class, 0..1. It begins with the best model and
    adds, again and again, the one with which the mean of the probabilities has the lowest log loss,
    as long as that falls; at most `max_models` different ones. Log loss counts how far off an image
    is, and so follows the luck of single images less than accuracy does.
    """
    counts, total = np.zeros(len(of_label)), np.zeros(of_label.shape[1])
    loss = np.inf
    for step in range(MAX_STEPS):
        losses = -np.log(np.maximum((total + of_label) / (step + 1), MIN_PROB)).mean(axis=1)
        if np.count_nonzero(counts) == max_models:
            losses[counts == 0] = np.inf
        best = int(losses.argmin())
        if losses[best] >= loss:
            break
        loss = losses[best]
        counts[best] += 1
        total += of_label[best]
    weights: Floats = counts / counts.sum()
    return weights


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
