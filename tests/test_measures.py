"""Axes and levers are judged by what the sweep ranks by, its luck with the images included."""

import numpy as np
import pandas as pd
import pytest

from raylab.analysis.about_axes import axis_findings, verdicts_of
from raylab.analysis.about_levers import lever_findings, lever_gains
from raylab.analysis.diagnose import diagnose
from raylab.analysis.evidence import Evidence
from raylab.analysis.measures import image_scores
from raylab.analysis.predictions import TrialPredictions
from raylab.training.metrics import accuracy, confusion_counts, macro_f1

NUM = 2000
LABELS = np.repeat(np.arange(4), [1400, 300, 200, 100])
IDS = np.array([f"{i:05d}" for i in range(NUM)])
RIGHT = {"none": (1.0, 0.55, 0.3, 0.1), "balanced": (0.7, 0.8, 0.8, 0.8)}
"""Per class: `none` is more often right, `balanced` right on all classes alike."""


def predicted(trial_id, rng, shares, labels=LABELS):
    right = rng.random(len(labels)) < np.array(shares)[labels]
    guesses = np.where(right, labels, (labels + rng.integers(1, 4, len(labels))) % 4)
    probs = np.full((len(labels), 4), 0.1, dtype=np.float32)
    probs[np.arange(len(labels)), guesses] = 0.7
    return TrialPredictions(trial_id, IDS[: len(labels)], labels, ("a", "b", "c", "d"), probs)


def measures_of(trial):
    counts = confusion_counts(trial.labels, trial.probs.argmax(axis=1), 4)
    of_label = trial.probs[np.arange(len(trial.labels)), trial.labels].astype(np.float64)
    return {
        "val_accuracy": accuracy(counts),
        "val_macro_f1": macro_f1(counts),
        "val_loss": float(-np.log(of_label).mean()),
    }


@pytest.fixture(autouse=True)
def _labels_are_not_judged(monkeypatch):
    """Which takes seconds, and is none of the matter."""
    monkeypatch.setattr("raylab.analysis.diagnose.can_be_judged", lambda seen: False)


def evidence_of(metric, *, keeps_predictions=True, levers=False):
    rows, predictions = [], {}
    for weights, shares in RIGHT.items():
        for seed in range(3):
            trial_id = f"{weights}{seed}"
            trial = predicted(trial_id, np.random.default_rng([seed, len(weights)]), shares)
            measured = measures_of(trial) | {"train_accuracy": 0.95, "train_loss": 0.1}
            config = {"class_weights": weights, "seed": seed, "family_id": weights}
            told = {"trial_id": trial_id, "status": "complete", "split_fingerprint": "x"}
            counted = {"num_val": NUM, "num_epochs": 3, "best_epoch": 3, "seconds": 10.0 + seed}
            rows.append(config | told | counted | measured)
            predictions[trial_id] = trial
    epochs = [
        {"trial_id": row["trial_id"], "epoch": epoch, "lr": 1e-3}
        | {name: row[name] for name in measured}
        for row in rows
        for epoch in (1, 2, 3)
    ]
    asked = {"axes": {"class_weights": list(RIGHT)}}
    if levers:
        asked = {"levers": [{"class_weights": "balanced"}]}
    grid = {"name": "x", "data": "toy", "metric": metric, "seeds": [0, 1, 2], **asked}
    kept = predictions if keeps_predictions else {}
    images = pd.DataFrame({"image_id": IDS, "path": IDS, "label": "a", "sha256": IDS})
    return Evidence(pd.DataFrame(rows), pd.DataFrame(epochs), kept, images, (), grid)


def test_the_mean_over_the_images_is_the_metric_and_its_scatter_that_of_the_bootstrap() -> None:
    trial = predicted("t", np.random.default_rng(0), RIGHT["none"])
    rng, again = np.random.default_rng(1), []
    for _ in range(300):
        rows = rng.integers(0, NUM, NUM)
        drawn = TrialPredictions("t", IDS, LABELS[rows], trial.classes, trial.probs[rows])
        again.append(measures_of(drawn))
    for name, value in measures_of(trial).items():
        scores = image_scores(trial, name).scores
        assert abs(scores.mean()) == pytest.approx(value, abs=1e-6)
        bootstrap = np.std([measured[name] for measured in again])
        assert scores.std() / np.sqrt(NUM) == pytest.approx(bootstrap, rel=0.15)


def test_a_class_that_is_neither_there_nor_predicted_is_left_out_of_f1() -> None:
    labels = np.array([0, 0, 1, 1])
    probs = np.eye(4, dtype=np.float32)[[0, 1, 1, 1]]
    trial = TrialPredictions("t", IDS[:4], labels, ("a", "b", "c", "d"), probs)
    expected = macro_f1(confusion_counts(labels, probs.argmax(axis=1), 4))
    assert image_scores(trial, "val_macro_f1").scores.mean() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "best"), [("val_accuracy", "none"), ("val_macro_f1", "balanced")]
)
def test_the_level_that_wins_by_the_sweeps_metric_is_the_one_that_is_kept(metric, best) -> None:
    evidence = evidence_of(metric)
    (verdict,) = verdicts_of(evidence)
    assert (verdict.kind, verdict.best_level) == ("matters", best)
    assert set(evidence.best_family["class_weights"]) == {best}
    ahead = diagnose(evidence).next
    assert ahead is not None
    assert ahead.grid["trial"]["class_weights"] == best
    head, *_ = axis_findings(evidence, [verdict])
    assert head.sentence.startswith(f"Axes are judged by {metric}, as the sweep ranks.")


def test_of_a_loss_less_is_better() -> None:
    evidence = evidence_of("val_loss")
    (verdict,) = verdicts_of(evidence)
    lowest = evidence.trials.groupby("class_weights")["val_loss"].mean().idxmin()
    assert verdict.best_level == lowest
    (effect,) = verdict.effects
    assert abs(effect.estimate.value) == pytest.approx(
        evidence.trials.groupby("class_weights")["val_loss"].mean().diff().abs().iloc[-1]
    )
    assert "plus means less" in axis_findings(evidence, [verdict])[0].sentence


def test_a_lever_is_judged_by_the_sweeps_metric_too() -> None:
    by_accuracy, by_f1 = (
        lever_gains(evidence_of(metric, levers=True))[0].estimate
        for metric in ("val_accuracy", "val_macro_f1")
    )
    assert by_accuracy.high < 0 < by_f1.low
    evidence = evidence_of("val_macro_f1", levers=True)
    head, *_ = lever_findings(evidence, lever_gains(evidence))
    assert "judged by val_macro_f1" in head.sentence


@pytest.mark.parametrize(
    ("metric", "keeps_predictions"), [("val_macro_f1", False), ("seconds", True)]
)
def test_what_accuracy_alone_says_settles_no_axis_and_no_lever(metric, keeps_predictions) -> None:
    found = diagnose(evidence_of(metric, keeps_predictions=keeps_predictions))
    head = next(finding for finding in found.findings if finding.topic == "axes")
    assert head.severity == "warning"
    assert f"by val_accuracy, though the sweep ranks by {metric}" in head.sentence
    assert found.next is None or found.next.grid["axes"]["class_weights"] == list(RIGHT)
    pulled = diagnose(evidence_of(metric, keeps_predictions=keeps_predictions, levers=True))
    assert pulled.next is None or "class_weights" not in pulled.next.grid.get("trial", {})
