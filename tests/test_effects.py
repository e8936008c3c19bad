"""What axes change: paired differences, dead wires, interactions, importance, and their errors."""

import itertools

import numpy as np
import pandas as pd
import pytest

from raylab.analysis.about_axes import axis_findings, verdicts_of
from raylab.analysis.axes import drawn_fields, find_axes, remaining
from raylab.analysis.effects import effects, image_error, interactions
from raylab.analysis.evidence import Evidence
from raylab.analysis.importance import importances
from raylab.analysis.measures import image_scores
from raylab.analysis.predictions import TrialPredictions
from raylab.analysis.verdicts import judge

METRIC = "val_accuracy"


def board(accuracy, axes, seeds=(0, 1, 2), noise=0.002, seed=0):
    """A leaderboard of the whole grid; accuracy: from one point of it."""
    rng = np.random.default_rng(seed)
    rows = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        for s in seeds:
            value = accuracy(point) + rng.normal(0, noise)
            rows.append({**point, "seed": s, METRIC: value, "val_loss": 1 - value})
    frame = pd.DataFrame(rows)
    return frame.assign(trial_id=[f"t{i}" for i in range(len(frame))])


def verdict_of(name, frame):
    return {v.axis.name: v for v in judge(frame, find_axes(frame), METRIC, {})}[name]


AXES = {"augment": ["none", "light"], "lr": [1e-3, 1e-4], "drop_rate": [0.0, 0.3]}
GAINS = {"none": 0, "light": 0.02, 1e-3: 0.05, 1e-4: 0}


def additive(point):
    return 0.6 + GAINS[point["augment"]] + GAINS.get(point.get("lr"), 0)


def test_effect_is_the_mean_difference_of_matched_trials():
    frame = board(additive, AXES)
    axes = find_axes(frame)
    (effect,) = effects(frame, axes, axes, METRIC, {})["augment"]
    assert (effect.low_level, effect.high_level) == ("none", "light")
    assert effect.estimate.value == pytest.approx(0.02, abs=0.003)
    assert effect.estimate.low < 0.02 < effect.estimate.high
    assert effect.estimate.num == 12


def test_context_that_only_one_level_ran_in_does_not_bias_the_effect():
    frame = board(additive, AXES)
    frame = frame[~((frame["augment"] == "none") & (frame["lr"] == 1e-3))]  # light got the good lr
    frame = frame.reset_index(drop=True)
    axes = find_axes(frame)
    (effect,) = effects(frame, axes, axes, METRIC, {})["augment"]
    assert effect.estimate.num == 6
    assert effect.estimate.value == pytest.approx(0.02, abs=0.004)


def test_live_axis_matters_and_one_without_effect_makes_no_difference():
    frame = board(additive, AXES, noise=0.001)
    assert verdict_of("augment", frame).kind == "matters"
    assert verdict_of("augment", frame).best_level == "light"
    assert verdict_of("drop_rate", frame).kind == "nothing"


def test_what_acts_only_after_the_best_epoch_is_no_dead_wire():
    frame = board(additive, AXES)
    alike = frame[frame["drop_rate"] == 0.0]
    frame = pd.concat([alike.assign(history=1), alike.assign(drop_rate=0.3, history=2)])
    frame = frame.reset_index(drop=True).assign(trial_id=[f"t{i}" for i in range(2 * len(alike))])
    assert verdict_of("drop_rate", frame).kind == "nothing"
    assert verdict_of("drop_rate", frame.assign(history=1)).kind == "dead"


def test_without_predictions_the_luck_of_the_validation_images_is_still_in_the_interval():
    """The same images in all pairs: of 100 two points are within luck, of a million not."""
    kinds = [
        verdict_of("augment", board(additive, AXES).assign(num_val=num)).kind
        for num in (100, 1_000_000)
    ]
    assert kinds == ["unclear", "matters"]


def test_identical_metrics_are_a_dead_wire_and_nearly_identical_ones_are_not():
    frame = board(additive, AXES)
    dead = frame[frame["drop_rate"] == 0.0]
    frame = pd.concat([dead, dead.assign(drop_rate=0.3)], ignore_index=True)
    frame["trial_id"] = [f"t{i}" for i in range(len(frame))]
    assert verdict_of("drop_rate", frame).kind == "dead"
    assert verdict_of("augment", frame).kind == "matters"
    (effect,) = verdict_of("augment", frame).effects
    assert effect.estimate.num == 6  # copies are no further pairs
    frame.loc[len(frame) - 1, "val_loss"] += 1e-9
    assert verdict_of("drop_rate", frame).kind == "nothing"


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [
        ("patience", "note", "patience changed nothing: 3 pairs"),
        ("drop_rate", "problem", "drop_rate is a dead wire: 3 pairs"),
    ],
)
def test_a_field_that_waits_for_its_cause_is_not_called_broken(name, severity, said):
    alike = board(lambda p: 0.7, {name: [1]})
    trials = pd.concat([alike, alike.assign(**{name: 2})], ignore_index=True)
    trials = trials.assign(trial_id=[f"t{i}" for i in range(6)], status="complete")
    none = pd.DataFrame()
    evidence = Evidence(trials, none, {}, none, (), {})
    _, finding = axis_findings(evidence, verdicts_of(evidence))
    assert finding.severity == severity
    assert finding.sentence.startswith(said)


def test_noisy_axis_without_enough_seeds_is_called_unclear():
    frame = board(additive, {"augment": ["none", "light"]}, seeds=[0, 1], noise=0.02)
    assert verdict_of("augment", frame).kind == "unclear"
    one_pair = board(additive, {"augment": ["none", "light"]}, seeds=[0])
    assert verdict_of("augment", one_pair).kind == "unclear"


def test_fields_that_move_together_are_one_axis():
    frame = board(additive, {"augment": ["none", "light"], "lr": [1e-3, 1e-4]})
    frame["model"] = frame["lr"].map({1e-3: "cnn", 1e-4: "resnet18"})
    names = [axis.name for axis in find_axes(frame)]
    assert names == ["model + lr", "augment"]
    assert verdict_of("model + lr", frame).kind == "matters"


def test_a_filter_that_follows_from_the_weights_is_no_axis_and_one_that_was_swept_is():
    points = itertools.product(("resnet18", "resnet34", "vgg19_bn"), (0, 1, 2))
    rows = [{"model": model, "seed": seed, "pretrained": "true"} for model, seed in points]
    frame = pd.DataFrame(rows)
    frame["interpolation"] = np.where(frame["model"] == "vgg19_bn", "bilinear", "auto")
    assert [axis.name for axis in find_axes(frame)] == ["model"]
    swept = pd.concat([frame, frame.assign(interpolation="bilinear")], ignore_index=True)
    assert [axis.name for axis in find_axes(swept)] == ["model", "interpolation"]


def test_worse_levels_are_those_clearly_below_the_best():
    axes = {"augment": ["none", "light", "strong"], "lr": [1e-3, 1e-4]}
    gains = {"none": 0.0, "light": 0.03, "strong": 0.0302}
    frame = board(lambda p: 0.6 + gains[p["augment"]], axes)
    assert verdict_of("augment", frame).worse_levels() == {"none"}


def test_interaction_is_the_difference_of_differences():
    def accuracy(point):
        both = point["augment"] == "light" and point["lr"] == 1e-3
        return additive(point) - 0.04 * both

    frame = board(accuracy, AXES)
    axes = find_axes(frame)
    first, *others = interactions(frame, axes, axes, METRIC, {})
    assert set(first.axes) == {"augment", "lr"}
    assert abs(first.estimate.value) == pytest.approx(0.04, abs=0.005)
    assert first.estimate.is_clear
    assert not any(other.estimate.is_clear for other in others)
    assert first.at_second - first.at_first == pytest.approx(first.estimate.value)


def test_settings_that_differ_do_not_widen_the_interval_of_their_mean():
    gain = {1e-3: 0.01, 3e-4: 0.03, 1e-4: 0.11}
    axes = {"augment": ["none", "light"], "lr": list(gain)}
    hits = 0
    for seed in range(40):
        frame = board(lambda p: 0.6 + gain[p["lr"]] * (p["augment"] == "light"), axes, seed=seed)
        (effect,) = verdict_of("augment", frame).effects
        hits += effect.estimate.low < 0.05 < effect.estimate.high
        assert effect.estimate.high - effect.estimate.low < 0.01
    assert hits >= 35  # 95 % of 40 is 38; fewer than 35 has a chance of 1 %
    once = board(lambda p: 0.6 + gain[p["lr"]] * (p["augment"] == "light"), axes, seeds=[0])
    (effect,) = verdict_of("augment", once).effects
    assert effect.estimate.high - effect.estimate.low > 0.1  # never repeated: nothing is known


def test_equal_levels_are_called_different_at_most_as_often_as_promised():
    clear = 0
    for seed in range(60):
        axes = {"augment": ["none", "flip", "light"], "lr": [1e-3, 1e-4]}
        frame = board(lambda p: 0.6, axes, seeds=(0, 1), seed=seed)
        found = judge(frame, find_axes(frame), METRIC, {})
        clear += found[0].kind == "matters"
    assert clear <= 6  # 5 % of 60 is 3; more than 6 has a chance of 3 %


@pytest.mark.parametrize(("num_levels", "told"), [(3, {"1"}), (4, {"1"}), (6, {"1", "2", "3"})])
def test_levels_of_one_axis_borrow_their_scatter_from_one_another(num_levels, told):
    """Steps of 3 points at seeds that scatter by 0.4 are told, whatever one diverged level does."""
    levels = {level: 0.65 + 0.03 * level for level in range(num_levels)}
    frame = board(lambda p: levels[p["lr"]], {"lr": list(levels)}, noise=0.004, seed=1)
    assert verdict_of("lr", frame).worse_levels() == set(map(str, range(num_levels - 1)))
    diverged = (frame["lr"] == 0) & (frame["seed"] == 0)
    frame.loc[diverged, METRIC] = 0.14
    assert verdict_of("lr", frame).worse_levels() >= told


def test_of_six_equal_levels_none_is_told_from_another():
    axes = {"lr": [1, 2, 3, 4, 5, 6]}
    kinds = [verdict_of("lr", board(lambda p: 0.7, axes, seed=seed)).kind for seed in range(10)]
    assert kinds.count("matters") <= 2  # 5 % of 10; more than 2 has a chance of 1 %


def test_two_configs_that_were_right_on_all_of_few_images_may_still_differ():
    frame = board(lambda p: 1.0, {"lr": [1, 2]}, seeds=(0, 1), noise=0)
    frame["val_loss"] = [0.1, 0.2, 0.3, 0.4]
    kinds = {}
    for num in (20, 2000):
        right = {i: predictions_of(i, np.ones(num, dtype=bool)) for i in frame["trial_id"]}
        with_images = judge(frame, find_axes(frame), METRIC, scores_of(right))
        without = judge(frame.assign(num_val=num), find_axes(frame), METRIC, {})
        kinds[num] = [verdict.kind for verdict in (*with_images, *without)]
    assert kinds == {20: ["unclear"] * 2, 2000: ["nothing"] * 2}


def test_fields_that_were_drawn_are_axes_of_their_own_however_few_trials_drew_them():
    rng = np.random.default_rng(0)
    drawn = {"lr": rng.random(8), "drop_rate": rng.random(8), "split.train": rng.random(8)}
    frame = pd.DataFrame(drawn).assign(**{"split.val": 1 - drawn["split.train"]}, seed=0)
    ranges = {name: {"uniform": [0, 1]} for name in drawn}
    grid = {"axes": ranges, "search": {"random": {"num_trials": 8}}}
    axes = find_axes(frame, drawn_fields(grid))
    assert sorted(axis.name for axis in axes) == ["drop_rate", "lr", "split.train + split.val"]
    assert [axis.name for axis in remaining(axes, frame.head(2))] == [axis.name for axis in axes]
    assert drawn_fields(grid | {"search": "grid"}) == frozenset()


def predictions_of(trial_id, right, first=0):
    probs = np.zeros((len(right), 2), dtype=np.float32)
    probs[np.arange(len(right)), np.where(right, 0, 1)] = 1
    ids = np.array([f"{first + i:06d}" for i in range(len(right))])
    labels = np.zeros(len(right), dtype=np.int64)
    return TrialPredictions(trial_id, ids, labels, ("a", "b"), probs)


def scores_of(trials, metric=METRIC):
    return {name: image_scores(trial, metric) for name, trial in trials.items()}


def test_more_pairs_do_not_make_the_validation_images_less_random():
    rng = np.random.default_rng(0)
    hard = rng.random(2000) < 0.1  # images that only `b` gets right, in every trial
    trials = {}
    for i in range(20):
        trials[f"a{i}"] = predictions_of(f"a{i}", ~hard)
        trials[f"b{i}"] = predictions_of(f"b{i}", np.ones(2000, dtype=bool))
    ids = np.array([[f"a{i}", f"b{i}"] for i in range(20)], dtype=object)
    signs = np.array([-1.0, 1.0])
    expected = np.sqrt(0.1 * 0.9 / 2000)
    assert image_error(ids, signs, scores_of(trials)) == pytest.approx(expected, rel=0.1)
    assert image_error(ids[:1], signs, scores_of(trials)) == pytest.approx(expected, rel=0.1)


def test_other_validation_images_count_as_two_independent_draws():
    right = np.arange(1000) < 700
    trials = {"a": predictions_of("a", right), "b": predictions_of("b", right, first=5000)}
    pair = np.array([["a", "b"]], dtype=object)
    error = image_error(pair, np.array([-1.0, 1.0]), scores_of(trials))
    assert error == pytest.approx(np.sqrt(2 * 0.7 * 0.3 / 1000), rel=0.01)


def test_importance_finds_the_number_that_explains_the_variance():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"lr": 10 ** rng.uniform(-5, -1, 60), "drop_rate": rng.uniform(0, 0.5, 60), "seed": 0}
    )
    frame[METRIC] = 0.7 - 0.05 * (np.log10(frame["lr"]) + 3) ** 2 + rng.normal(0, 0.005, 60)
    frame["trial_id"] = [f"t{i}" for i in range(60)]
    axes = find_axes(frame)
    (only,) = importances(frame, axes, METRIC)
    assert only.axis == "lr"
    assert only.share > 0.8
    assert importances(frame.head(5), axes, METRIC) is None
    found = judge(frame, axes, METRIC, {})
    assert [v.kind for v in found] == ["unpaired", "unpaired"]
    low, high = found[[v.axis.name for v in found].index("lr")].good_range
    assert 1e-5 < low < 1e-3 < high < 1e-1


def test_no_importance_is_read_from_noise():
    named = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = {name: rng.random(14) for name in ("lr", "drop_rate", "mixup")}
        frame = pd.DataFrame(drawn).assign(augment=["none", "light"] * 7, seed=0)
        frame[METRIC] = rng.normal(0.7, 0.01, 14)
        named += bool(importances(frame, find_axes(frame, drawn), METRIC))
    assert named <= 3  # 5 % of 20 is 1; more than 3 has a chance of 2 %
