"""From small grey faces to pairs that are one picture: recompressed, resized, cropped, mirrored,
brighter or darker copies.

A few low frequencies of each face propose candidates by one matrix product per block; these are
then laid over each other, coarse to fine, and kept if they correlate. Thresholds are set on FER2013
(30,768 distinct faces, 48 px), by planted copies and by eye.

Legend: N faces, M pairs, S = SIDE.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from raylab.images.registration import Floats, correlate, correlate_details, no_placement
from raylab.machine import num_cpus

Faces = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

SIDE = 48
NUM_FREQUENCIES = 10
"""Cosines of less than 10 half waves: a crop of 5 % shifts the finest by a quarter wave."""
CANDIDATE_SIMILARITY = 0.68
"""Proposes 1 in 3,000 pairs of unlike faces, and 97 % of the worst 5 % crops."""
MAX_CANDIDATES_PER_FACE = 32  # among later faces: bounds memory where all images look alike
FIRST_CANDIDATES = 4  # are tried first; others only where these have not joined the two faces
BLOCK_BYTES = 2**27  # of one block of similarities
PAIRS_PER_BLOCK = 1024


@dataclass(frozen=True)
class Pass:
    """One pass of laying candidates over each other: at 1/`shrink` of the side."""

    shrink: int
    num_steps: int
    min_correlation: float


PASSES = (Pass(3, 1, 0.88), Pass(2, 2, 0.93), Pass(1, 2, 0.0))
MIN_CORRELATION = 0.96
"""Of the better of the last two passes: the finest one suffers where a copy was shrunk, the one
before it where it was cropped. Of 5e8 pairs of FER2013, one of unlike faces was seen above."""
DETAIL_BLUR_PX = 2.0  # at full side
MIN_DETAIL_CORRELATION = 0.87
"""Of edges, again the better of two scales: 99 % of planted copies have 0.90; drawn faces that
share no more than outline and light (toy) mostly stay below."""


@dataclass(frozen=True)
class Pairs:
    """`first` < `second`: rows (M,) of faces that are one picture; each pair once."""

    first: Rows
    second: Rows
    mirrored: Flags
    correlation: Floats

    def take(self, kept: Flags | Rows) -> "Pairs":
        """The pairs where `kept` (M,) is True, or those of these places."""
        return Pairs(
            self.first[kept], self.second[kept], self.mirrored[kept], self.correlation[kept]
        )


def near_pairs(faces: Faces, progress: Progress = lambda done, total: None) -> Pairs:
    """Pairs of near-copies among uint8 (N, S, S) grey faces, none of which is blank.

    Of a crowd of copies not all pairs are given, but enough to join it.

    Time grows with N² (about 15 CPU seconds for 30,000), memory with N.
    """
    candidates = _candidates(faces, progress)
    scales = [_shrunk(faces, step.shrink) for step in PASSES]
    ranks = _ranks(candidates)
    pairs = _verified(scales, candidates.take(ranks < FIRST_CANDIDATES))
    groups = groups_of(len(faces), pairs)
    one, other = groups[candidates.first], groups[candidates.second]
    unjoined = (one < 0) | (one != other)
    more = _verified(scales, candidates.take((ranks >= FIRST_CANDIDATES) & unjoined))
    return _joined([pairs, more])


def groups_of(num: int, pairs: Pairs) -> Rows:
    """(num,) number of the group that each face is in through its pairs; -1 = in none."""
    ones = np.ones(len(pairs.first), dtype=np.bool_)
    graph = coo_array((ones, (pairs.first, pairs.second)), shape=(num, num))
    _, parts = connected_components(graph, directed=False)
    sizes = np.bincount(parts, minlength=1)
    numbers = np.cumsum(sizes > 1) - 1
    return np.where(sizes[parts] > 1, numbers[parts], -1).astype(np.int64)


def describe(faces: Faces) -> tuple[Floats, Floats]:
    """((N, D), (N, D')) cosine coefficients that are even and odd from left to right; norm 1.

    Mirroring changes the sign of the odd ones and nothing else. Coefficients are weighted with
    their frequency, which evens out the 1/f of natural images; the mean (brightness) is left out,
    and the norm (contrast) divided away.
    """
    down, across = np.mgrid[:NUM_FREQUENCIES, :NUM_FREQUENCIES]
    frequency = np.hypot(down, across)
    used = (frequency > 0) & (frequency < NUM_FREQUENCIES)
    even = (across % 2 == 0)[used]
    described = np.empty((len(faces), int(used.sum())), dtype=np.float32)
    for start in range(0, len(faces), PAIRS_PER_BLOCK):
        block = faces[start : start + PAIRS_PER_BLOCK].astype(np.float32)
        waves = dctn(block, axes=(1, 2), norm="ortho")[:, :NUM_FREQUENCIES, :NUM_FREQUENCIES]
        described[start : start + PAIRS_PER_BLOCK] = (waves * frequency)[:, used]
    described /= np.linalg.norm(described, axis=1, keepdims=True) + 1e-6
    return np.ascontiguousarray(described[:, even]), np.ascontiguousarray(described[:, ~even])


def _candidates(faces: Faces, progress: Progress) -> Pairs:
    """Pairs whose low frequencies are alike, as they stand or mirrored: even ± odd."""
    even, odd = describe(faces)
    num = len(faces)
    num_rows = max(16, BLOCK_BYTES // (4 * max(num, 1)))
    found = []
    for start in range(0, num, num_rows):
        similarity = even[start : start + num_rows] @ even[start:].T
        turned = odd[start : start + num_rows] @ odd[start:].T
        similarity += np.abs(turned)
        height = len(similarity)
        similarity[:, :height][np.tril_indices(height)] = -1  # each pair once, none with itself
        row, column = np.nonzero(similarity > _thresholds(similarity)[:, None])
        mirrored, strength = turned[row, column] < 0, similarity[row, column]
        found.append(Pairs(row + start, column + start, mirrored, strength))
        progress(min(start + num_rows, num), num)
    return _joined(found)


def _thresholds(similarity: Floats) -> Floats:
    """(rows,) what a candidate has to exceed: more in rows that have too many."""
    thresholds = np.full(len(similarity), CANDIDATE_SIMILARITY, dtype=np.float32)
    counts = np.count_nonzero(similarity > CANDIDATE_SIMILARITY, axis=1)
    crowded = np.flatnonzero(counts > MAX_CANDIDATES_PER_FACE)
    if crowded.size:
        place = similarity.shape[1] - MAX_CANDIDATES_PER_FACE - 1
        thresholds[crowded] = np.partition(similarity[crowded], place, axis=1)[:, place]
    return thresholds


def _ranks(pairs: Pairs) -> Rows:
    """(M,) 0 for the strongest pair of each first face, 1 for the next …"""
    order = np.lexsort((-pairs.correlation, pairs.first))
    firsts = pairs.first[order]
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(firsts, firsts)
    return ranks


def _verified(scales: list[Floats], candidates: Pairs) -> Pairs:
    """Those that correlate when laid over each other, with that correlation."""
    num = len(candidates.first)
    blocks = [
        candidates.take(np.arange(start, min(start + PAIRS_PER_BLOCK, num)))
        for start in range(0, num, PAIRS_PER_BLOCK)
    ]
    with ThreadPoolExecutor(num_cpus()) as threads:
        return _joined(list(threads.map(lambda block: _verify(scales, block), blocks)))


def _verify(scales: list[Floats], pairs: Pairs) -> Pairs:
    placement = no_placement(len(pairs.first))
    before = np.zeros(len(pairs.first), dtype=np.float32)
    for step, images in zip(PASSES, scales, strict=True):
        fixed, moved = _laid_out(images, pairs)
        correlation, placement = correlate(fixed, moved, placement, step.num_steps)
        best = np.maximum(correlation, before)
        kept = correlation >= step.min_correlation
        pairs = Pairs(pairs.first, pairs.second, pairs.mirrored, best).take(kept)
        placement, before = placement[kept], correlation[kept]
    kept = pairs.correlation >= MIN_CORRELATION
    pairs = pairs.take(kept)
    return pairs.take(_details(scales, pairs, placement[kept]) >= MIN_DETAIL_CORRELATION)


def _details(scales: list[Floats], pairs: Pairs, placement: Floats) -> Floats:
    """(M,) how well edges correlate, at the better of the last two scales."""
    best = np.full(len(pairs.first), -1, dtype=np.float32)
    for step, images in list(zip(PASSES, scales, strict=True))[-2:]:
        fixed, moved = _laid_out(images, pairs)
        blur_px = DETAIL_BLUR_PX / step.shrink
        best = np.maximum(best, correlate_details(fixed, moved, placement, blur_px))
    return best


def _laid_out(images: Floats, pairs: Pairs) -> tuple[Floats, Floats]:
    """(M, S, S) first and second images of the pairs, the second turned where it is mirrored."""
    moved = images[pairs.second]
    moved[pairs.mirrored] = moved[pairs.mirrored, :, ::-1]
    return images[pairs.first], moved


def _shrunk(faces: Faces, shrink: int) -> Floats:
    """float32 (N, S / shrink, S / shrink): means of `shrink` x `shrink` pixels."""
    side = SIDE // shrink
    tiles = faces.reshape(len(faces), side, shrink, side, shrink)
    return np.asarray(tiles.mean(axis=(2, 4), dtype=np.float32))


def _joined(parts: list[Pairs]) -> Pairs:
    none = Pairs(*(np.empty(0, dtype=kind) for kind in (np.int64, np.int64, bool, np.float32)))
    parts = [none, *parts]
    return Pairs(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.mirrored for part in parts]),
        np.concatenate([part.correlation for part in parts]),
    )
