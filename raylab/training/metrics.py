"""From confusion counts to metrics. Counts add up over batches and workers; accuracies do not.

K = classes; counts: int64 (K, K), rows = true class, columns = predicted class.
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def confusion_counts(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], num_classes: int
) -> Counts:
    """labels, predicted: int64 (N,), 0..K-1."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(counts: Counts) -> float:
    """The share of right predictions; 0 without any."""
    total = int(counts.sum())
    return int(np.trace(counts)) / total if total else 0.0


def f1_per_class(counts: Counts) -> npt.NDArray[np.float64]:
    """float64 (K,); 0 for a class that is predicted but not there, nan for one that is neither."""
    hits = np.diagonal(counts).astype(np.float64)
    both = (counts.sum(0) + counts.sum(1)).astype(np.float64)
    scores = np.full(len(hits), np.nan)
    np.divide(2 * hits, both, out=scores, where=both > 0)
    return scores


def macro_f1(counts: Counts) -> float:
    """The mean F1 over the classes that are there or predicted, each weighing the same."""
    scores = f1_per_class(counts)
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else 0.0
