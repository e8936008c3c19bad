"""From stored validation predictions to an ensemble and what it honestly gains; trains nothing.

M = models, N = validation images, K = classes. A model is a trial or, over folds, a config's trials
of one seed: of each image what the trial says that did not train on it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from raylab.analysis.families import num_lacking
from raylab.analysis.finding import plain, signed, span
from raylab.analysis.predictions import UNREADABLE, TrialPredictions, combine, load_trial
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.greedy import greedy_weights
from raylab.results.leaderboard import differing_columns, ranked, read, sweep_folders
from raylab.results.table import Format, render_cells, value_text

NUM_FOLDS = 5
NUM_REPEATS = 10
"""Cuts into folds: which trial is the best of near-equals hangs on the cut."""
MAX_CANDIDATES = 50
"""Models that are looked at, the best first: more would only add ways to be lucky."""
MODEL = ["family_id", "seed"]


@dataclass(frozen=True)
class Ensemble:
    """A weighted mean of trials' probabilities, and how much better than one trial it is.

    `accuracy` and `single_accuracy` are nested estimates: of each fifth of the images, with both
    the weights and the best single trial chosen on the other four, over ten cuts into fifths.
    """

    trial_ids: tuple[str, ...]
    """The heaviest first; chosen on all images, as one would use it. Over folds each first one."""
    weights: tuple[float, ...]
    """Add up to 1."""
    num_candidates: int
    num_images: int
    accuracy: float
    single_accuracy: float
    low: float
    """Of the gain, 95 %: as far as one cut's gain scatters over so many images, and from cut to
    cut, since which trials are chosen changes with the images.
    """
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
    together, alone = _nested(probs, of_label, correct, first.labels, max_models)
    weights = _weights(of_label, correct, max_models)
    order = [int(m) for m in np.argsort(-weights, kind="stable") if weights[m] > 0]
    accuracy, single_accuracy = float(together.mean()), float(alone.mean())
    gain = accuracy - single_accuracy
    half = float(norm.isf(0.025)) * _standard_error(together.astype(np.float64) - alone)
    return Ensemble(
        trial_ids=tuple(trials[m].trial_id for m in order),
        weights=tuple(float(weights[m]) for m in order),
        num_candidates=len(trials),
        num_images=len(first.labels),
        accuracy=accuracy,
        single_accuracy=single_accuracy,
        low=gain - half,
        high=gain + half,
    )


def _standard_error(differences: npt.NDArray[np.float64]) -> float:
    """Of the mean of (cuts, N) differences.

    As if one image more differed: on few images, that none does is luck.
    """
    num_images = differences.shape[1]
    of_images = (differences.var() + 1 / num_images) / num_images
    return math.sqrt(of_images + differences.mean(axis=1).var(ddof=1))


def _nested(
    probs: npt.NDArray[np.float32],
    of_label: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.int64],
    max_models: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(NUM_REPEATS, N) whether the ensemble, and the single trial, chosen without an image's fold
    are right on the image.
    """
    rng = np.random.default_rng(0)  # the same results read the same twice
    together = np.empty((NUM_REPEATS, len(labels)), dtype=np.bool_)
    alone = np.empty_like(together)
    for cut in range(NUM_REPEATS):
        fold = rng.permutation(len(labels)) % NUM_FOLDS
        for held in (fold == k for k in range(NUM_FOLDS)):
            weights = _weights(of_label[:, ~held], correct[:, ~held], max_models)
            together[cut, held] = _is_right(weights, probs[:, held], labels[held])
            alone[cut, held] = correct[correct[:, ~held].mean(axis=1).argmax(), held]
    return together, alone


def _is_right(
    weights: npt.NDArray[np.float64],
    probs: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """(N,) whether the weighted mean of the trials is right."""
    right: npt.NDArray[np.bool_] = np.tensordot(weights, probs, 1).argmax(axis=1) == labels
    return right


def _weights(
    of_label: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], max_models: int
) -> npt.NDArray[np.float64]:
    """(M,) of the greedy selection, which is given the most accurate trial first."""
    order = np.argsort(-correct.mean(axis=1), kind="stable")
    weights = np.zeros(len(order))
    weights[order] = greedy_weights(of_label[order], max_models)
    return weights


def show_ensemble(
    locations: Sequence[str], max_models: int, format: Format = "table", width: int | None = None
) -> str:
    """The ensemble of these results as text: its trials and weights, and what it gains.

    json is one object. Refused where fewer than two trials on the best one's data validated its
    images.
    """
    frame = ranked(read(locations))
    complete = frame[(frame["status"] == "complete") & frame["val_accuracy"].notna()]
    complete = complete[complete["data_fingerprint"].isin(complete["data_fingerprint"].head(1))]
    models = _models(complete.drop_duplicates("trial_id"))
    folders = sweep_folders(locations)
    found: dict[str, TrialPredictions] = {}
    for _, trials in models.groupby(MODEL, sort=False):
        try:
            model = _load(trials, folders)
        except UNREADABLE:
            continue
        first = next(iter(found.values()), model)
        if np.array_equal(model.image_ids, first.image_ids) and model.classes == first.classes:
            found[model.trial_id] = model
    if len(found) < 2:
        text = f"{len(found)} trials have predictions of the best one's images; 2 are needed"
        raise Refused([Problem(", ".join(locations), text)], "the results", "nothing was shown")
    best = best_ensemble(list(found.values()), max_models)
    members = models.set_index("trial_id").loc[list(best.trial_ids)]
    num_folds = int(members["num_folds"].iloc[0])
    if format == "json":
        answer = plain(asdict(best) | {"gain": best.gain, "num_folds": num_folds})
        return json.dumps(answer, ensure_ascii=False, indent=2)
    notes = [*_notes(best), *_notes_on_folds(num_folds, int(members["num_lacking"].iloc[0]))]
    return render_cells(_cells(best, members), format, notes, width)


def _models(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of the models that are looked at, one model behind the other, each in the order of
    its folds: those that lack the fewest folds first, since a fold may be an easy one, then the
    best. `val_accuracy` is the model's, of the images of all its folds.
    """
    keys = [trials[name] for name in MODEL]
    num_val = trials["num_val"].astype(float).fillna(1.0)
    right = (trials["val_accuracy"] * num_val).groupby(keys).transform("sum")
    num_folds = num_val.groupby(keys).transform("size")
    models = trials.assign(
        val_accuracy=right / num_val.groupby(keys).transform("sum"),
        num_folds=num_folds,
    )
    models["num_lacking"] = num_lacking(models)
    by = ["num_lacking", "val_accuracy", *MODEL, "split.fold"]
    models = models.sort_values(by, ascending=[name != "val_accuracy" for name in by])
    return models[models.groupby(MODEL, sort=False).ngroup() < MAX_CANDIDATES]


def _load(trials: pd.DataFrame, folders: Mapping[str, ResultsDirectory]) -> TrialPredictions:
    """A model's predictions, as one trial's: the first of its folds; raises one of UNREADABLE."""
    folds = [load_trial(folders[str(row.sweep)], str(row.trial_id)) for row in trials.itertuples()]
    whole = combine(str(trials["family_id"].iloc[0]), folds)
    return TrialPredictions(
        folds[0].trial_id, whole.image_ids, whole.labels, whole.classes, whole.probs
    )


def _cells(found: Ensemble, members: pd.DataFrame) -> pd.DataFrame:
    """Per member its weight, its config, and what it reached alone."""
    columns: dict[str, list[str]] = {"weight": [f"{weight:.2f}" for weight in found.weights]}
    columns["trial_id"] = list(found.trial_ids)
    for name in differing_columns(members):
        columns[name] = [value_text(value) for value in members[name]]
    columns["val_accuracy"] = [f"{value:.4f}" for value in members["val_accuracy"]]
    return pd.DataFrame(columns, dtype="object")


def _notes(found: Ensemble) -> list[str]:
    return [
        f"ensemble {found.accuracy:.4f}, best single trial {found.single_accuracy:.4f}: "
        f"{signed(found.gain)} {span(found.low, found.high)} points on {found.num_images:,} images",
        f"both chosen out of {found.num_candidates} trials on four fifths of the images and scored "
        "on the fifth that was left, over ten cuts; the weights above are from all images",
    ]


def _notes_on_folds(num_folds: int, num_missing: int) -> list[str]:
    notes = []
    if num_folds > 1:
        notes.append(
            f"over folds a trial stands here for the {num_folds} of its config and seed, each "
            "heard on the images of its own fold; trial_id is the first one's"
        )
    if num_missing:
        notes.append(
            f"on {num_folds} of {num_folds + num_missing} folds only, of which no config has all: "
            "the others may be harder"
        )
    return notes
