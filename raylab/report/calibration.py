"""From the winner's stored probabilities to how far they can be believed.

Expected calibration error: the mean distance between confidence and accuracy over bins of equal
width, weighted by their images (Naeini et al. 2015; Guo et al. 2017, with 15 bins).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raylab.analysis.intervals import score_interval
from raylab.analysis.predictions import TrialPredictions, times_validated
from raylab.report.blocks import Chart, Note, Section
from raylab.report.figures import figure, line, rounded
from raylab.report.material import Part
from raylab.report.palette import ACCENT, MUTED
from raylab.report.wording import percent

NUM_BINS = 15
FAIR = 0.01
NUM_DRAWS = 200
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, per bin that holds an image; B of them."""

    confidence: Floats
    """(B,) mean probability of the best guess, 0..1."""
    accuracy: Floats
    """(B,) share of right guesses."""
    num_images: Floats
    """(B,) images, one that several seeds validated counted once."""
    ece: float
    """Expected calibration error, 0..1."""
    bias: float
    """Mean confidence less accuracy: above 0 it believes itself too much."""
    chance_ece: float
    """What the error would be, in the mean, if every confidence meant what it says."""
    chance_bias: float
    """How far from 0 the bias would be then, in 95 % of cases."""


def reliability(trials: Sequence[TrialPredictions]) -> Reliability:
    """All trials' guesses together, each trial a model of its own; at least one trial."""
    confidence = np.concatenate([trial.probs.max(axis=1) for trial in trials]).astype(np.float64)
    right = np.concatenate([trial.correct for trial in trials]).astype(np.float64)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    held = counts > 0
    means = np.bincount(bins, confidence, NUM_BINS)[held] / counts[held]
    accuracy = np.bincount(bins, right, NUM_BINS)[held] / counts[held]
    chance = _by_chance(trials, confidence, bins)
    return Reliability(
        confidence=means,
        accuracy=accuracy,
        num_images=counts[held] / times_validated(trials),
        ece=_ece(confidence - right, bins),
        bias=float(confidence.mean() - right.mean()),
        chance_ece=float(np.mean([ece for ece, _ in chance])),
        chance_bias=float(np.quantile([abs(bias) for _, bias in chance], 0.95)),
    )


def _ece(gaps: Floats, bins: npt.NDArray[np.int64]) -> float:
    """gaps (N,): confidence less right or wrong; what cancels within a bin does not count."""
    return float(np.abs(np.bincount(bins, gaps, NUM_BINS)).sum() / len(gaps))


def _by_chance(
    trials: Sequence[TrialPredictions], confidence: Floats, bins: npt.NDArray[np.int64]
) -> list[tuple[float, float]]:
    """ECE and bias of guesses that are right as often as they say; seeds of one image together."""
    ids = np.concatenate([trial.image_ids for trial in trials])
    _, places = np.unique(ids, return_inverse=True)
    rng = np.random.default_rng(0)  # the same report reads the same twice
    drawn = []
    for _ in range(NUM_DRAWS):
        luck = rng.random(int(places.max()) + 1)[places]
        gaps = confidence - (luck < confidence)
        drawn.append((_ece(gaps, bins), float(gaps.mean())))
    return drawn


def calibration(part: Part) -> Section:
    """The reliability diagram of the winner."""
    if not part.winner_predictions:
        return Section("Calibration", [])
    found = reliability(part.winner_predictions)
    points = _points(found)
    chart = figure(
        [points],
        360,
        x={"title": "confidence, %", "range": [-2, 102]},
        y={"title": "accuracy, %", "range": [-2, 102]},
        shapes=[line(MUTED, x0=0, x1=100, y0=0, y1=100)],
    )
    alt = f"Reliability diagram of the winner; expected calibration error {percent(found.ece)}."
    caption = (
        "On the line a confidence means what it says; below it the model believes itself too much."
    )
    return Section(
        "Calibration",
        [Chart(chart, "Reliability of the winner", alt, caption, is_half=True), Note(_said(found))],
    )


def _points(found: Reliability) -> dict[str, Any]:
    """A dot per bin, as large as its share of the images, with the interval of its accuracy."""
    low, high = score_interval(found.accuracy, np.maximum(found.num_images, 1), np.inf)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": rounded(100 * found.confidence),
        "y": rounded(100 * found.accuracy),
        "error_y": {
            "type": "data",
            "array": rounded(100 * (high - found.accuracy)),
            "arrayminus": rounded(100 * (found.accuracy - low)),
            "color": ACCENT,
            "thickness": 1.5,
            "width": 0,
        },
        "marker": {
            "color": ACCENT,
            "opacity": 1,
            "size": rounded(_sizes(found.num_images), 1),
            "line": {"width": 0},
        },
        "line": {"color": ACCENT, "width": 1.3},
        "customdata": [round(float(v)) for v in found.num_images],
        "hovertemplate": "says %{x:.1f} %, right %{y:.1f} %, %{customdata} images<extra></extra>",
    }


def _sizes(num_images: Floats) -> Floats:
    """Diameters in px whose areas follow the images."""
    diameters: Floats = 5 + 11 * np.sqrt(num_images / num_images.max())
    return diameters


def _said(found: Reliability) -> str:
    ece = (
        f"Expected calibration error {percent(found.ece)} ({NUM_BINS} bins; by chance alone a "
        f"model whose confidence means what it says shows {percent(found.chance_ece)} on so many "
        "images)."
    )
    if abs(found.bias) < max(FAIR, found.chance_bias):
        return f"{ece} On the whole the winner is as sure as it is right, as far as these tell."
    side = "surer than it is right" if found.bias > 0 else "less sure than it is right"
    return (
        f"{ece} On the whole the winner is {side}, by {100 * abs(found.bias):.1f} points; "
        "temperature scaling (Guo et al. 2017) usually mends most of that."
    )
