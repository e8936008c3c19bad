"""Ensembles of stored predictions: a gain that is there is found, luck is not called one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from raylab.analysis.ensemble import best_ensemble, show_ensemble
from raylab.analysis.predictions import TrialPredictions
from raylab.cli import app
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory

CLASSES = ("a", "b", "c")


def trials_of(rng, num_trials, num_images, shared=0.0, skill=1.0):
    """Equal models; `shared`: the part of their errors that all have in common."""
    labels = rng.integers(0, 3, num_images)
    common = rng.normal(0, 1, (num_images, 3))
    found = []
    for m in range(num_trials):
        own = rng.normal(0, 1, (num_images, 3))
        logits = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        logits[np.arange(num_images), labels] += skill
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ids = np.array([f"{i:06d}" for i in range(num_images)])
        found.append(TrialPredictions(f"t{m}", ids, labels, CLASSES, probs.astype(np.float32)))
    return found


def test_models_that_err_apart_gain_much_and_the_interval_says_so():
    found = best_ensemble(trials_of(np.random.default_rng(0), 8, 2000), 8)
    assert found.low > 0.03
    assert len(found.trial_ids) >= 5
    assert sum(found.weights) == pytest.approx(1)
    assert list(found.weights) == sorted(found.weights, reverse=True)


def test_models_that_err_together_gain_nothing():
    found = best_ensemble(trials_of(np.random.default_rng(1), 8, 2000, shared=1.0), 8)
    assert found.gain == 0
    assert found.low <= 0 <= found.high


def test_a_trial_chosen_alone_still_leaves_a_doubt_about_the_gain():
    """Two equal models on few images: whether one alone is taken hangs on the images."""
    found = best_ensemble(trials_of(np.random.default_rng(2), 2, 60), 8)
    assert len(found.trial_ids) == 1
    assert found.high - found.low > 0.1


def test_models_that_never_differ_leave_the_doubt_of_one_image():
    found = best_ensemble(trials_of(np.random.default_rng(1), 8, 100, shared=1.0), 8)
    assert (found.low, found.high) == pytest.approx((-0.0196, 0.0196), abs=1e-4)


def test_no_more_models_are_taken_than_asked_for():
    trials = trials_of(np.random.default_rng(2), 8, 500)
    assert len(best_ensemble(trials, 3).trial_ids) <= 3


@pytest.mark.slow
def test_the_nested_gain_is_that_on_images_never_seen_and_its_interval_holds():
    inside, gaps = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        trials = trials_of(rng, 12, 15300, shared=0.7)
        cut = [
            TrialPredictions(t.trial_id, t.image_ids[:300], t.labels[:300], CLASSES, t.probs[:300])
            for t in trials
        ]
        found = best_ensemble(cut, 12)
        by_id = {t.trial_id: t for t in trials}
        mean = sum(
            weight * by_id[trial_id].probs[300:]
            for trial_id, weight in zip(found.trial_ids, found.weights, strict=True)
        )
        labels = trials[0].labels[300:]
        single = by_id[max(cut, key=lambda t: t.correct.mean()).trial_id]
        true = (mean.argmax(1) == labels).mean() - single.correct[300:].mean()
        inside += found.low <= true <= found.high
        gaps.append(found.gain - true)
    assert inside >= 35
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(40) + 0.002


def test_trials_of_other_images_are_no_ensemble():
    first, second = trials_of(np.random.default_rng(0), 2, 50)
    other = TrialPredictions("x", second.image_ids[::-1], second.labels, CLASSES, second.probs)
    with pytest.raises(ValueError, match="same images"):
        best_ensemble([first, other], 2)
    with pytest.raises(ValueError, match="two trials"):
        best_ensemble([first], 2)


def test_leaderboard_shows_the_ensemble_of_a_sweep(finished: Path) -> None:
    results = str(finished / "results")
    table = CliRunner().invoke(app, ["leaderboard", results, "--ensemble", "3"])
    assert table.exit_code == 0, table.output
    assert "weight" in table.stdout
    assert "best single trial" in table.stdout
    answer = json.loads(
        CliRunner()
        .invoke(app, ["leaderboard", results, "--ensemble", "3", "--format", "json"])
        .stdout
    )
    assert answer["num_candidates"] == 4
    assert 1 <= len(answer["trial_ids"]) <= 3
    assert answer["gain"] == pytest.approx(answer["accuracy"] - answer["single_accuracy"], abs=1e-5)


def test_results_without_predictions_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    ResultsDirectory(tmp_path / "results").folder.delete("predictions")
    with pytest.raises(Refused, match="2 are needed"):
        show_ensemble([str(tmp_path / "results")], 3)
