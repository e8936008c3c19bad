"""Stored predictions as arrays: sorted by image, averaged over seeds, gathered over folds."""

from pathlib import Path

import numpy as np
import pytest

from raylab.analysis.predictions import load_family, load_trial
from raylab.results.directory import ResultsDirectory

CLASSES = ("happy", "sad")


@pytest.fixture
def results(tmp_path: Path) -> ResultsDirectory:
    directory = ResultsDirectory(tmp_path)
    said = {"one": [0.9, 0.2, 0.6], "two": [0.7, 0.4, 0.2]}
    for trial_id, happy in said.items():
        probs = np.array([[p, 1 - p] for p in happy])
        directory.write_predictions(
            trial_id, ["c", "a", "b"], ["happy", "sad", "happy"], probs, CLASSES
        )
    directory.write_predictions("other_fold", ["d"], ["sad"], np.array([[0.9, 0.1]]), CLASSES)
    directory.write_predictions("wrong", ["a"], ["슬픔"], np.array([[0.9, 0.1]]), CLASSES)
    return directory


def test_trial_is_sorted_by_image(results: ResultsDirectory) -> None:
    trial = load_trial(results, "one")
    assert trial.image_ids.tolist() == ["a", "b", "c"]
    assert trial.labels.tolist() == [1, 0, 0]
    assert trial.classes == CLASSES
    assert trial.probs.dtype == np.float32
    assert trial.probs[:, 0] == pytest.approx([0.2, 0.6, 0.9])
    assert trial.correct.tolist() == [True, True, True]


def test_family_is_the_mean_over_the_trials_that_saw_the_image(results: ResultsDirectory) -> None:
    family = load_family(results, "family", ["one", "two", "other_fold"])
    assert family.image_ids.tolist() == ["a", "b", "c", "d"]
    assert family.labels.tolist() == [1, 0, 0, 1]
    assert family.probs[:, 0] == pytest.approx([0.3, 0.4, 0.8, 0.9])
    assert family.correct.tolist() == [1.0, 0.5, 1.0, 0.0]
    assert family.num_seeds == 2


def test_missing_predictions_are_told(results: ResultsDirectory) -> None:
    with pytest.raises(FileNotFoundError):
        load_trial(results, "absent")
    with pytest.raises(FileNotFoundError):
        load_family(results, "family", ["one", "absent"])


def test_label_that_is_no_class_is_refused(results: ResultsDirectory) -> None:
    with pytest.raises(ValueError, match="a label is none of happy, sad"):
        load_trial(results, "wrong")
