"""From several configs' opinions on the same images to the classes that none of them separates.

N = images, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.analysis.outofsample import OutOfSample


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are taken for each other."""

    first: str
    second: str
    first_as_second: float
    """Share of the images labelled `first` that are called `second`, mean over the configs."""
    second_as_first: float
    best_two_way: float
    """Best config's balanced accuracy when it has only these two to choose from; 0.5 = a coin."""
    num_images: int


def mean_confusion(configs: Sequence[OutOfSample]) -> npt.NDArray[np.float64]:
    """(K, K), rows = label, columns = best guess, rows add up to 1; mean over the configs."""
    num_classes = len(configs[0].classes)
    tables = []
    for seen in configs:
        flat = seen.labels * num_classes + seen.probs.argmax(axis=1)
        counts = np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)
        tables.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    mean: npt.NDArray[np.float64] = np.mean(tables, axis=0)
    return mean


def confused_pairs(configs: Sequence[OutOfSample]) -> list[ConfusedPair]:
    """Every pair, the most confused first (by the larger of both shares)."""
    confusion = mean_confusion(configs)
    classes, labels = configs[0].classes, configs[0].labels
    pairs = [
        ConfusedPair(
            first=classes[a],
            second=classes[b],
            first_as_second=float(confusion[a, b]),
            second_as_first=float(confusion[b, a]),
            best_two_way=max(two_way_accuracy(seen, a, b) for seen in configs),
            num_images=int(np.isin(labels, [a, b]).sum()),
        )
        for a in range(len(classes))
        for b in range(a + 1, len(classes))
    ]
    return sorted(pairs, key=lambda p: -max(p.first_as_second, p.second_as_first))


def two_way_accuracy(seen: OutOfSample, a: int, b: int) -> float:
    """Mean of both classes' recalls when only p_a and p_b are compared; 0.5 if one has no image."""
    recalls = []
    for own, other in ((a, b), (b, a)):
        rows = seen.labels == own
        if not rows.any():
            return 0.5
        recalls.append(float((seen.probs[rows, own] > seen.probs[rows, other]).mean()))
    return sum(recalls) / 2
