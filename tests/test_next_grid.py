"""The grid to run next asks what is open, never what has run or was settled, and is accepted."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import add_trial, curve, empty_results
from typer.testing import CliRunner

from raylab.analysis.axes import Axis, shown
from raylab.analysis.diagnose import diagnose_results
from raylab.analysis.effects import Effect, Estimate
from raylab.analysis.next_grid import NextGrid, Wish, next_grid
from raylab.analysis.verdicts import Kind, Verdict
from raylab.cli import app
from raylab.errors import Refused

SEEDS = [0, 1, 2]
NOTHING = Wish()


def verdict(key: str, values: list[Any], kind: Kind, best: Any, open_: tuple[Any, ...] = ()):
    """The best is clearly better than all but the open levels, or like the others."""
    levels = tuple(shown(value) for value in values)
    clear, unclear, none = (0.1, 0.08, 0.12), (0.01, -0.02, 0.04), (0.0, -0.002, 0.002)
    if kind in ("dead", "nothing"):
        gains = dict.fromkeys(values, none)
    else:
        gains = {v: unclear if kind == "unclear" or v in open_ else clear for v in values}
    effects = tuple(
        Effect(key, shown(value), shown(best), Estimate(*gains[value], 6), kind == "dead")
        for value in values
        if value != best
    )
    return Verdict(Axis((key,), levels, pd.Series(dtype=int)), kind, shown(best), effects)


def after(verdicts: list[Verdict], wish: Wish = NOTHING, **grid: Any) -> NextGrid | None:
    return next_grid({"name": "g", "data": "toy", "seeds": SEEDS, **grid}, verdicts, wish)


def grid_after(verdicts: list[Verdict], wish: Wish = NOTHING, **grid: Any) -> dict[str, Any]:
    found = after(verdicts, wish, **grid)
    assert found is not None
    return found.grid


def test_where_three_seeds_could_not_tell_the_next_ones_are_others() -> None:
    axes = {"lr": [1e-4, 1e-3]}
    found = after([verdict("lr", axes["lr"], "unclear", 1e-3)], Wish(more_seeds=True), axes=axes)
    assert found is not None
    assert found.grid["axes"] == axes
    assert found.grid["seeds"] == [3, 4, 5]
    assert found.reasons[1:] == ("seeds: 3 others, to tell luck from merit",)


def test_levels_that_were_not_told_from_the_best_get_other_seeds() -> None:
    levels = ["none", "light", "strong"]
    told = verdict("augment", levels, "matters", "none", open_=("light",))
    found = grid_after([told], axes={"augment": levels})
    assert found["axes"] == {"augment": ["none", "light"]}
    assert found["seeds"] == [3, 4, 5]


def test_where_the_next_grid_would_ask_only_what_has_run_there_is_none() -> None:
    levels = ["none", "light"]
    best = verdict("augment", levels, "matters", "none")
    same = verdict("lr", [1e-4, 1e-3], "nothing", 1e-3)
    wire = verdict("drop_rate", [0.0, 0.3], "dead", 0.0)
    zipped = [{"model": ["cnn", "resnet18"], "batch_size": [64, 128]}]
    ranges = {"lr": {"loguniform": [1e-4, 1e-2]}}
    drawn = {"search": {"random": {"num_trials": 5}}, "axes": {**ranges, "drop_rate": [0.0, 0.3]}}
    assert after([], zip=zipped) is None
    assert after([best], axes={"augment": levels}, zip=zipped) is None
    assert after([best, same], axes={"augment": levels, "lr": [1e-4, 1e-3]}) is None
    assert after([wire], **drawn) is None  # the same draws, bit for bit
    optuna = {"search": {"optuna": {"num_trials": 5}}, "axes": ranges}
    assert after([], **optuna) is None
    assert after([], Wish(more_epochs=5), **optuna) is not None


@pytest.mark.parametrize(
    ("kind", "best", "left"),
    [
        ("nothing", "light", ["light", "trivial"]),
        ("matters", "none", ["none", "trivial"]),
        ("dead", "none", None),
    ],
)
def test_what_was_settled_is_not_asked_again(kind: Kind, best: str, left: list[str] | None) -> None:
    levels = ["none", "light", "strong"]
    axes = {"augment": levels, "lr": [1e-4, 1e-3]}
    verdicts = [verdict("augment", levels, kind, best), verdict("lr", axes["lr"], "matters", 1e-3)]
    found = grid_after(verdicts, Wish(more_augmentation=True), axes=axes)
    assert found["axes"].get("augment") == left
    assert found["axes"]["lr"] == [0.00032, 1e-3, 0.01]


def test_a_number_that_was_settled_is_asked_beyond_its_old_values_only() -> None:
    axes = {"lr": [5e-4, 1e-3], "label_smoothing": [0.0, 0.2], "epochs": [10, 40]}
    verdicts = [
        verdict("lr", axes["lr"], "nothing", 1e-3),
        verdict("label_smoothing", axes["label_smoothing"], "nothing", 0.0),
        verdict("epochs", axes["epochs"], "nothing", 10),
    ]
    wish = Wish(more_learning=True, soft_labels=True, more_epochs=10)
    found = grid_after(verdicts, wish, axes=axes)
    assert found["axes"] == {"lr": [0.00033, 1e-3, 0.003]}
    assert found["trial"] == {"label_smoothing": 0.0, "epochs": 10}


def test_what_is_asked_keeps_the_bases_own_value() -> None:
    found = grid_after([], Wish(soft_labels=True), trial={"label_smoothing": 0.2})
    assert found["axes"]["label_smoothing"] == [0.0, 0.1, 0.2]


def test_a_field_that_nothing_reads_any_more_goes_with_what_read_it() -> None:
    losses = ["cross_entropy", "focal"]
    best = verdict("loss", losses, "matters", "cross_entropy")
    lr = {"lr": [1e-4, 1e-3]}
    wish = Wish(more_seeds=True)
    found = grid_after([best], wish, trial={"focal_gamma": 1.0}, axes={"loss": losses, **lr})
    assert found["trial"] == {"loss": "cross_entropy"}
    assert found["axes"] == lr
    gammas = {"loss": losses, "focal_gamma": [1.0, 2.0], **lr}
    assert grid_after([best], wish, axes=gammas)["axes"] == lr
    assert after([best], trial={"focal_gamma": 1.0}, axes={"loss": losses, **lr}) is None


def test_only_values_that_fit_the_rest_of_the_grid_are_looked_at() -> None:
    warmup = {"warmup_epochs": [1.0, 3.0, 6.0]}
    best = verdict("warmup_epochs", warmup["warmup_epochs"], "matters", 6.0)
    found = grid_after([best], trial={"epochs": 12}, axes=warmup)
    assert found["axes"]["warmup_epochs"] == [4.2, 6.0]  # 12 are not < 12
    short = verdict("epochs", [5, 10, 20], "matters", 5)
    found = grid_after([short], trial={"warmup_epochs": 3.0}, axes={"epochs": [5, 10, 20]})
    assert found["axes"]["epochs"] == [5, 7]
    means = {"ema_decay": [0.0, 0.99], "swa_frac": [0.0, 0.25]}
    both = [{"ema_decay": 0.99, "swa_frac": 0.25}]
    best = verdict("ema_decay", means["ema_decay"], "matters", 0.99)
    found = grid_after([best], Wish(more_seeds=True), axes=means, exclude=both)
    assert found["trial"]["ema_decay"] == 0.99
    assert found["exclude"] == both


def test_a_step_that_the_grid_does_not_allow_is_not_taken() -> None:
    asha = {"asha": {"grace_epochs": 5, "reduction_factor": 3}}
    same = verdict("epochs", [5, 20], "nothing", 5)
    found = grid_after([same], Wish(more_seeds=True), axes={"epochs": [5, 20]}, scheduler=asha)
    assert found["axes"] == {"epochs": [5, 20]}
    with pytest.raises(Refused, match="nosuch"):
        after([], axes={"nosuch": [1, 2]})


def test_exclusions_stay_unless_a_field_of_theirs_is_fixed_at_another_value() -> None:
    axes = {"model": ["cnn", "resnet18"], "image_size": [64, 128], "batch_size": [64, 128]}
    too_large = {"model": "resnet18", "image_size": 128, "batch_size": 128}
    others = [{"model": "resnet18", "seed": 2}, {"model": "cnn", "split.train": 0.8}]
    wish = Wish(more_epochs=5)
    for best, left in ((128, [too_large, *others]), (64, others)):
        same = verdict("batch_size", axes["batch_size"], "nothing", best)
        found = grid_after([same], wish, axes=axes, exclude=[too_large, *others])
        assert found["exclude"] == left


def test_trials_are_counted_as_the_budget_allows() -> None:
    found = after([], Wish(more_epochs=5), axes={"lr": [1e-4, 1e-3]}, budget={"trials": 4})
    assert found is not None
    assert found.num_trials == 4


def test_it_says_where_weights_that_it_begins_with_are_kept() -> None:
    began = {"pretrained": "trial:0123456789ab"}
    found = after([], Wish(more_epochs=5), trial=began, axes={"lr": [1e-4, 1e-3]})
    assert found is not None
    assert "run it with --results of them" in found.reasons[-1]
    assert found.grid["trial"]["pretrained"] == began["pretrained"]


def test_an_older_next_grid_does_not_outlive_a_diagnosis_that_has_none(tmp_path) -> None:
    zipped = [{"model": ["cnn", "resnet18"], "batch_size": [64, 128]}]
    results = empty_results(tmp_path, zip=zipped, seeds=SEEDS, trial={"epochs": 12})
    for model, batch_size, accuracy in (("cnn", 64, 0.5), ("resnet18", 128, 0.9)):
        for seed in SEEDS:
            rng = np.random.default_rng([seed, batch_size])
            rows = curve(accuracy, 12, lambda rng=rng: rng.normal(0, 0.002))
            config = {"model": model, "batch_size": batch_size, "epochs": 12, "seed": seed}
            add_trial(results, config, rows)
    results.flush()
    results.write_next_grid("name: old\n")
    found = diagnose_results(results)
    assert found.next is None
    assert not results.folder.exists("next.yaml")
    done = CliRunner().invoke(app, ["diagnose", results.location])
    assert "No next grid: nothing points" in done.stdout
    assert "next.yaml" not in done.output


def test_levers_that_could_not_be_told_are_pulled_again_with_other_seeds(tmp_path) -> None:
    levers = [{"mixup": 0.2}, {"drop_rate": 0.3}]
    results = empty_results(tmp_path, levers=levers, seeds=SEEDS, trial={"epochs": 12})
    for place, lever in enumerate(({}, *levers)):
        for seed in SEEDS:
            rng = np.random.default_rng([seed, place])
            rows = curve(0.6 + rng.normal(0, 0.01), 12, lambda rng=rng: rng.normal(0, 0.002))
            add_trial(results, {"epochs": 12, "seed": seed, **lever}, rows)
    results.flush()
    found = diagnose_results(results)
    assert found.next is not None
    assert found.next.grid["levers"] == levers
    assert found.next.grid["seeds"] == [3, 4, 5]
