"""Curves over epochs and over seeds: what more epochs would bring, what luck makes."""

import numpy as np
import pandas as pd
import pytest

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
    spread = seed_spread(frame, ["lr"], "val_accuracy")
    assert spread.low < 0.006 < spread.high
    assert (spread.num_configs, spread.df) == (40, 80)
    assert spread.of_difference(3) == pytest.approx(1.99 * spread.sd * np.sqrt(2 / 3), rel=0.01)
    assert seed_spread(frame.drop_duplicates("lr"), ["lr"], "val_accuracy") is None
