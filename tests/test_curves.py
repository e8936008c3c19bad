"""Curves over epochs and over seeds: what more epochs would bring, what luck makes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from raylab.analysis.about_training import curve_findings, seed_findings
from raylab.analysis.curves import extrapolate, last_trend
from raylab.analysis.seeds import seed_spread

EPOCHS = np.arange(1, 31)
TRUE_CURVES = {
    "power law": lambda e: 0.75 - 0.5 * e**-0.7,
    "exponential": lambda e: 0.7 - 0.4 * np.exp(-e / 8.0),
    "flat": lambda e: np.full(len(e), 0.6),
}


@pytest.mark.parametrize("name", TRUE_CURVES)
def test_the_interval_holds_what_more_epochs_bring(name):
    curve = TRUE_CURVES[name]
    truth = float(curve(np.array([45.0]))[0] - curve(np.array([30.0]))[0])
    hits, errors = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = extrapolate(curve(EPOCHS.astype(float)) + rng.normal(0, 0.004, 30), 15)
        hits += found.low - 5e-4 <= truth <= found.high + 5e-4
        errors.append(found.gain - truth)
    assert hits >= 32  # 80 %: the form itself has to be guessed from 30 epochs
    assert abs(np.mean(errors)) < 0.005


def test_a_noisier_curve_gives_a_wider_interval():
    curve = TRUE_CURVES["power law"](EPOCHS.astype(float))
    rng = np.random.default_rng(0)
    calm, wild = (extrapolate(curve + rng.normal(0, sd, 30), 15) for sd in (0.001, 0.01))
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_a_curve_that_falls_promises_nothing():
    found = extrapolate(0.7 - 0.003 * EPOCHS, 10)
    assert found.gain == pytest.approx(0, abs=1e-6)


def test_only_a_climb_beyond_its_noise_counts_as_rising():
    rng = np.random.default_rng(0)
    assert last_trend(0.5 + 0.005 * EPOCHS + rng.normal(0, 0.004, 30)).is_rising
    assert not last_trend(0.5 + rng.normal(0, 0.004, 30)).is_rising


def test_spread_over_seeds_is_pooled_over_configs_and_ignores_their_means():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"lr": np.repeat(np.arange(40), 3), "seed": [0, 1, 2] * 40})
    frame["val_accuracy"] = 0.5 + 0.01 * frame["lr"] + rng.normal(0, 0.006, 120)
    frame["num_val"] = 5_000
    spread = seed_spread(frame, ["lr"], "val_accuracy")
    assert spread.low < 0.006 < spread.high
    assert (spread.num_configs, spread.df) == (40, 80)
    assert spread.of_difference(3) == pytest.approx(1.99 * spread.sd * np.sqrt(2 / 3), rel=0.01)
    assert seed_spread(frame.drop_duplicates("lr"), ["lr"], "val_accuracy") is None


def test_a_diverged_seed_is_left_out_of_the_spread_and_told():
    frame = equal_configs(0, num_configs=6, num_folds=1)
    before = seed_spread(frame, ["lr"], "val_accuracy")
    frame.loc[0, "val_accuracy"] = 0.14
    spread = seed_spread(frame, ["lr"], "val_accuracy")
    assert spread.sd == pytest.approx(before.sd, rel=0.3)
    assert (spread.num_configs, spread.num_apart, spread.df) == (5, 1, 10)
    (found,) = seed_findings(seen(frame), [])
    assert "Left out: 1 group of seeds with one far off the others." in found.sentence


def equal_configs(seed, num_configs=30, num_folds=5, seeds=(0, 1, 2)):
    """Trials of configs that differ by the luck of their seeds alone; folds are easy or hard."""
    rng = np.random.default_rng(seed)
    ids = [(c, f, s) for c in range(num_configs) for f in range(num_folds) for s in seeds]
    frame = pd.DataFrame(ids, columns=["lr", "split.fold", "seed"])
    folds = rng.normal(0, 0.02, num_folds)[frame["split.fold"]]
    return frame.assign(val_accuracy=0.65 + folds + rng.normal(0, 0.01, len(frame)), num_val=500)


def test_equal_configs_over_seeds_and_folds_lie_as_far_apart_as_told():
    beyond = []
    for seed in range(20):
        frame = equal_configs(seed)
        spread = seed_spread(frame, ["lr"], "val_accuracy")
        assert (spread.num_configs, spread.df) == (30, 30 * 5 * 2)
        means = frame.groupby("lr")["val_accuracy"].mean().to_numpy()
        apart = np.abs(means[:, None] - means)[np.triu_indices(30, 1)]
        beyond.append(np.mean(apart > spread.of_difference(3 * 5)))
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.015)


def test_the_finding_on_seeds_takes_all_trials_of_a_config_together():
    (found,) = seed_findings(seen(equal_configs(0)), [])
    assert found.evidence["seed_difference"] == pytest.approx(0.0071, abs=0.0002)
    assert "30 configs): with 15 trials each" in found.sentence
    assert "of 29 other configs" in found.sentence


def test_without_repeats_the_images_of_all_folds_count():
    frame = equal_configs(0, seeds=(0,))
    (found,) = seed_findings(seen(frame), [])
    best = frame.groupby("lr")["val_accuracy"].mean().max()
    expected = np.sqrt(best * (1 - best) / (5 * 500))
    assert found.evidence["standard_error"] == pytest.approx(expected)


def test_a_seed_that_diverged_in_one_of_its_folds_is_told_too():
    frame = equal_configs(0, num_configs=6, seeds=(0, 1))
    frame.loc[0, "val_accuracy"] = 0.14
    (found,) = seed_findings(seen(frame), [])
    assert "6 configs): with 10 trials each" in found.sentence
    assert "Left out: 1 group of seeds with one far off the others." in found.sentence


def test_luck_that_folds_tell_is_not_said_to_be_untold():
    told, untold = (
        seed_findings(seen(equal_configs(0, seeds=(0,), num_folds=num)), [])[0].sentence
        for num in (5, 1)
    )
    assert "so that the luck of the training is told from folds alone" in told
    assert "so that luck and merit cannot be told apart" in untold


def test_configs_are_close_to_the_best_by_their_means_over_all_images():
    """Equal over 600 images, whatever the share of the small fold."""
    rows = [
        *((lr, 0, seed, value, 500) for lr, value in enumerate((0.7, 0.66)) for seed in (0, 1)),
        *((lr, 1, seed, value, 100) for lr, value in enumerate((0.5, 0.7)) for seed in (0, 1)),
    ]
    columns = ["lr", "split.fold", "seed", "val_accuracy", "num_val"]
    (found,) = seed_findings(seen(pd.DataFrame(rows, columns=columns)), [])
    assert found.evidence["num_close_to_best"] == 1


def same_seeds(accuracies, seeds=(0, 1, 2)):
    """Configs whose seeds agree to the last image."""
    rows = [(lr, seed, value) for lr, value in enumerate(accuracies) for seed in seeds]
    return pd.DataFrame(rows, columns=["lr", "seed", "val_accuracy"]).assign(num_val=20)


def test_seeds_that_agree_to_the_last_image_say_nothing_of_luck():
    (found,) = seed_findings(seen(same_seeds([1.0, 1.0, 1.0, 0.7])), [])
    assert "agree to the last image" in found.sentence
    assert "2 of 3 other configs score the same as the best" in found.sentence
    assert found.evidence["num_close_to_best"] == 2
    assert found.severity == "note"


def falling_config(accuracies):
    trials = pd.DataFrame({"trial_id": ["x"], "best_epoch": [3], "num_epochs": [len(accuracies)]})
    epochs = pd.DataFrame({"trial_id": "x", "val_accuracy": accuracies})
    epochs = epochs.assign(epoch=range(1, len(accuracies) + 1), val_loss=1.0, train_accuracy=0.9)
    return SimpleNamespace(best_family=trials, complete=trials, epochs=epochs)


def test_a_curve_that_falls_is_said_to_fall_and_gets_no_forecast():
    rng = np.random.default_rng(0)
    (found,) = curve_findings(falling_config(0.7 - 0.003 * EPOCHS + rng.normal(0, 0.002, 30)))
    assert "the best config falls (−0.3" in found.sentence
    assert "more epochs:" not in found.sentence
    assert "fewer epochs, or patience" in found.sentence
    assert "gain" not in found.evidence


def seen(frame):
    """As much of the evidence as seeds are told from."""
    return SimpleNamespace(num_pruned=0, complete=frame, compared=frame, grid={})
