"""From labels, a seed and an epoch to the rows of every batch. Pure: arrays in, arrays out.

N = training rows, K = classes. An epoch of N rows is cut into ceil(N / batch_size) nearly equal
batches: none is left with a single image, on which BatchNorm could not learn.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches per epoch."""
    return max(1, -(-num_rows // batch_size))


def batch_sizes(num_rows: int, num_steps: int) -> Rows:
    """int64 (num_steps,): nearly equal, larger ones first, as numpy's array_split cuts."""
    base, extra = divmod(num_rows, num_steps)
    return np.full(num_steps, base) + (np.arange(num_steps) < extra)


def epoch_batches(
    labels: Rows,
    batch_size: int,
    sampler: str,
    seed: int,
    epoch: int,
    num_steps: int | None = None,
) -> list[Rows]:
    """The epoch's batches as positions in `labels`, which is int64 (N,).

    shuffle: every row once. proportional: every row once, and in every batch each class counts
    within one image of its share. balanced: N rows in which the classes stand equally often.
    `num_steps` overrides the number of batches, for workers that must agree on it.
    """
    rng = np.random.default_rng((seed, epoch))
    sizes = batch_sizes(len(labels), num_steps or num_batches(len(labels), batch_size))
    if sampler == "proportional":
        return _proportional(labels, sizes, rng)
    order = _balanced(labels, rng) if sampler == "balanced" else rng.permutation(len(labels))
    return np.split(order, np.cumsum(sizes)[:-1])


def _rows_by_class(labels: Rows, rng: np.random.Generator) -> list[Rows]:
    """The shuffled rows of each class that is there."""
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _balanced(labels: Rows, rng: np.random.Generator) -> Rows:
    """Each class gets N / K places; a row comes again only when its class is used up."""
    by_class = _rows_by_class(labels, rng)
    # Which classes get one more of the places that do not divide evenly is drawn anew each epoch.
    extra_first = rng.permutation(len(by_class))
    places = batch_sizes(len(labels), len(by_class))
    chosen = []
    for rank, index in enumerate(extra_first):
        rows, need = by_class[index], int(places[rank])
        rounds = [rows, *(rng.permutation(rows) for _ in range(need // len(rows)))]
        chosen.append(np.concatenate(rounds)[:need])
    return rng.permutation(np.concatenate(chosen))


def _proportional(labels: Rows, sizes: Rows, rng: np.random.Generator) -> list[Rows]:
    by_class = _rows_by_class(labels, rng)
    counts = proportional_counts(np.array([len(rows) for rows in by_class]), sizes, rng)
    ends = np.cumsum(counts, axis=0)  # (batches, K)
    batches = []
    for batch, end in enumerate(ends):
        start = end - counts[batch]
        parts = [rows[a:b] for rows, a, b in zip(by_class, start, end, strict=True)]
        batches.append(rng.permutation(np.concatenate(parts)))
    return batches


def proportional_counts(num_per_class: Rows, sizes: Rows, rng: np.random.Generator) -> Rows:
    """int64 (batches, K): images of each class in each batch; sums are exact both ways.

    Each is its share rounded down, plus 0 or 1. The ones are dealt to the classes with the most
    left to place, the rule that always succeeds in filling a 0/1 table with given sums (Ryser).
    """
    total = int(num_per_class.sum())
    counts: Rows = np.outer(sizes, num_per_class) // total
    missing = sizes - counts.sum(1)
    left = num_per_class - counts.sum(0)
    for batch, num_ones in enumerate(missing):
        tie_break = rng.random(len(left))
        chosen = np.lexsort((tie_break, -left))[:num_ones]
        counts[batch, chosen] += 1
        left[chosen] -= 1
    return counts
