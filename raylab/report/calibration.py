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


def reliability(trials: Sequence[TrialPredictions]) -> Reliability:
    """All trials' guesses together, each trial a model of its own; at least one trial."""
    confidence = np.concatenate([trial.probs.max(axis=1) for trial in trials]).astype(np.float64)
    right = np.concatenate([trial.correct for trial in trials]).astype(np.float64)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    held = counts > 0
    means = np.bincount(bins, confidence, NUM_BINS)[held] / counts[held]
    accuracy = np.bincount(bins, right, NUM_BINS)[held] / counts[held]
    ece = float(np.average(np.abs(means - accuracy), weights=counts[held]))
    bias = float(confidence.mean() - right.mean())
    return Reliability(means, accuracy, counts[held] / times_validated(trials), ece, bias)


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
    ece = f"Expected calibration error {percent(found.ece)} ({NUM_BINS} bins)."
    if abs(found.bias) < FAIR:
        return f"{ece} On the whole the winner is as sure as it is right."
    side = "surer than it is right" if found.bias > 0 else "less sure than it is right"
    return (
        f"{ece} On the whole the winner is {side}, by {100 * abs(found.bias):.1f} points; "
        "temperature scaling (Guo et al. 2017) usually mends most of that."
    )
