"""From stored validation predictions to an ensemble and what it honestly gains; trains nothing.

M = trials, N = validation images, K = classes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from raylab.analysis.finding import plain, signed, span
from raylab.analysis.predictions import TrialPredictions, load_trial
from raylab.errors import Problem, Refused
from raylab.results.greedy import greedy_weights
from raylab.results.leaderboard import differing_columns, ranked, read, sweep_folders
from raylab.results.table import Format, render_cells

NUM_FOLDS = 5
MAX_CANDIDATES = 200
"""Trials that are looked at, the best first: more would only add ways to be lucky."""


@dataclass(frozen=True)
class Ensemble:
    """A weighted mean of trials' probabilities, and how much better than one trial it is.

    `accuracy` and `single_accuracy` are nested estimates: of each fifth of the images, with both
    the weights and the best single trial chosen on the other four.
    """

    trial_ids: tuple[str, ...]
    """The heaviest first; chosen on all images, as one would use it."""
    weights: tuple[float, ...]
    """Add up to 1."""
    num_candidates: int
    num_images: int
    accuracy: float
    single_accuracy: float
    low: float
    """Of the gain, 95 %, from pairs of images."""
    high: float

    @property
    def gain(self) -> float:
        """Of the accuracy over that of the best single trial."""
        return self.accuracy - self.single_accuracy


def best_ensemble(trials: Sequence[TrialPredictions], max_models: int) -> Ensemble:
    """Greedy selection (Caruana et al. 2004) of at most `max_models` of the trials, which all
    validated the same images; ValueError if they did not, or if there are fewer than two.
    """
    first = trials[0]
    if len(trials) < 2 or any(not np.array_equal(t.image_ids, first.image_ids) for t in trials):
        raise ValueError("an ensemble takes two trials that validated the same images")
    probs = np.stack([trial.probs for trial in trials])  # (M, N, K)
    of_label = probs[:, np.arange(len(first.labels)), first.labels].astype(np.float64)
    correct = np.stack([trial.correct for trial in trials])
    together, single = _nested(probs, of_label, correct, first.labels, max_models)
    weights = greedy_weights(of_label, max_models)
    order = [int(m) for m in np.argsort(-weights, kind="stable") if weights[m] > 0]
    differences = together.astype(np.float64) - single
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half = float(norm.isf(0.025)) * error
    return Ensemble(
        trial_ids=tuple(trials[m].trial_id for m in order),
        weights=tuple(float(weights[m]) for m in order),
        num_candidates=len(trials),
        num_images=len(first.labels),
        accuracy=float(together.mean()),
        single_accuracy=float(single.mean()),
        low=float(differences.mean()) - half,
        high=float(differences.mean()) + half,
    )


def _nested(
    probs: npt.NDArray[np.float32],
    of_label: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.int64],
    max_models: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(N,) and (N,): whether the ensemble, and the single trial, chosen without an image's fold is
    right on it.
    """
    fold = np.random.default_rng(0).permutation(len(labels)) % NUM_FOLDS
    together, single = np.zeros(len(labels), np.bool_), np.zeros(len(labels), np.bool_)
    for held in (fold == k for k in range(NUM_FOLDS)):
        weights = greedy_weights(of_label[:, ~held], max_models)
        mean = np.tensordot(weights, probs[:, held], 1)
        together[held] = mean.argmax(1) == labels[held]
        best = int(correct[:, ~held].mean(axis=1).argmax())
        single[held] = correct[best, held]
    return together, single


def show_ensemble(
    locations: Sequence[str], max_models: int, format: Format = "table", width: int | None = None
) -> str:
    """The ensemble of these results as text: its trials and weights, and what it gains.

    json is one object. Refused where fewer than two trials validated the best one's images.
    """
    frame = ranked(read(locations))
    complete = frame[(frame["status"] == "complete") & frame["val_accuracy"].notna()]
    folders = sweep_folders(locations)
    trials: dict[str, TrialPredictions] = {}
    for row in complete.drop_duplicates("trial_id").head(MAX_CANDIDATES).itertuples():
        try:
            trial = load_trial(folders[str(row.sweep)], str(row.trial_id))
        except FileNotFoundError:
            continue
        first = next(iter(trials.values()), trial)
        if np.array_equal(trial.image_ids, first.image_ids) and trial.classes == first.classes:
            trials[trial.trial_id] = trial
    if len(trials) < 2:
        text = f"{len(trials)} trials have predictions of the best one's images; 2 are needed"
        raise Refused([Problem(", ".join(locations), text)], "the results", "nothing was shown")
    found = best_ensemble(list(trials.values()), max_models)
    if format == "json":
        answer = plain(asdict(found) | {"gain": found.gain})
        return json.dumps(answer, ensure_ascii=False, indent=2)
    return render_cells(_cells(found, complete), format, _notes(found), width)


def _cells(found: Ensemble, complete: pd.DataFrame) -> pd.DataFrame:
    """Per member its weight, its config, and what it reached alone."""
    rows = complete.drop_duplicates("trial_id").set_index("trial_id").loc[list(found.trial_ids)]
    columns: dict[str, list[str]] = {"weight": [f"{weight:.2f}" for weight in found.weights]}
    columns["trial_id"] = list(found.trial_ids)
    for name in differing_columns(rows):
        columns[name] = [str(value) for value in rows[name]]
    columns["val_accuracy"] = [f"{value:.4f}" for value in rows["val_accuracy"]]
    return pd.DataFrame(columns, dtype="object")


def _notes(found: Ensemble) -> list[str]:
    return [
        f"ensemble {found.accuracy:.4f}, best single trial {found.single_accuracy:.4f}: "
        f"{signed(found.gain)} {span(found.low, found.high)} points on {found.num_images:,} images",
        f"both chosen out of {found.num_candidates} trials on four fifths of the images and scored "
        "on the fifth that was left; the weights above are from all of them",
    ]
