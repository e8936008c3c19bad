"""A sweep's trials: the product, in order, minus what is left out; draws that repeat themselves."""

from typing import Any

import pytest

from raylab.config.differences import differing_fields
from raylab.config.expand import (
    config_from,
    count_draws,
    count_trials,
    draws,
    expand,
    idle_exclusions,
    replicas,
    sample,
    split_choices,
)
from raylab.config.sweep import Distribution, Search, SweepConfig
from raylab.config.trial import AUGMENT_PRESETS
from raylab.errors import CannotFinish


def sweep_of(**fields: Any) -> SweepConfig:
    return SweepConfig(**{"name": "test", "data": "toy", **fields})


def test_axes_are_crossed_and_seeds_innermost() -> None:
    sweep = sweep_of(axes={"lr": (0.1, 0.2), "epochs": (1, 2)}, seeds=(0, 7))
    told = [(trial.lr, trial.epochs, trial.seed) for trial in expand(sweep)]
    assert told == [(lr, e, s) for lr in (0.1, 0.2) for e in (1, 2) for s in (0, 7)]
    assert count_trials(sweep) == 8


def test_no_axes_is_one_trial_per_seed() -> None:
    assert [trial.seed for trial in expand(sweep_of(seeds=(3, 4)))] == [3, 4]


def test_zip_moves_together_and_is_crossed_with_axes() -> None:
    group = {"model": ("cnn", "resnet18"), "image_size": (32, 64)}
    sweep = sweep_of(axes={"lr": (0.1, 0.2)}, zip=(group,))
    told = [(trial.lr, trial.model, trial.image_size) for trial in expand(sweep)]
    pairs = [("cnn", 32), ("resnet18", 64)]
    assert told == [(lr, *pair) for lr in (0.1, 0.2) for pair in pairs]
    assert count_trials(sweep) == 4


@pytest.mark.parametrize(
    ("partial", "left"),
    [
        ({"lr": 0.1}, 6),
        ({"lr": 0.1, "augment": "light"}, 10),
        ({"augment": {"preset": "light"}}, 8),
        ({"augment.rotate_deg": 5}, 8),
        ({"split.train": 0.8, "lr": 0.2}, 6),
        ({"seed": 1}, 6),
        ({"mixup": 0.5}, 12),
        ({"augment": "none", "seed": 0}, 10),
    ],
)
def test_exclude_leaves_out_what_agrees(partial: dict[str, Any], left: int) -> None:
    axes = {"lr": (0.1, 0.2), "augment": ("none", "light", "trivial")}
    sweep = sweep_of(axes=axes, exclude=(partial,), seeds=(0, 1))
    assert count_trials(sweep) == len(list(expand(sweep))) == left


def test_a_dotted_axis_changes_one_operation_of_a_preset() -> None:
    sweep = sweep_of(trial={"augment": "light"}, axes={"augment.rotate_deg": (10,)})
    (trial,) = expand(sweep)
    assert trial.augment == AUGMENT_PRESETS["light"].model_copy(update={"rotate_deg": 10.0})


def test_a_dotted_axis_on_top_of_an_axis_of_presets() -> None:
    axes = {"augment.rotate_deg": (10,), "augment": ("none", "light")}
    told = [(trial.augment.flip, trial.augment.rotate_deg) for trial in expand(sweep_of(axes=axes))]
    assert told == [(0.0, 10.0), (0.5, 10.0)]


def test_split_fractions_follow_the_axis() -> None:
    sweep = sweep_of(trial={"split": {"test": 0.1}}, axes={"split.train": (0.7, 0.75, 0.8)})
    told = [(trial.split.train, trial.split.val, trial.split.test) for trial in expand(sweep)]
    assert told == [(0.7, 0.2, 0.1), (0.75, 0.15, 0.1), (0.8, 0.1, 0.1)]


def test_a_huge_product_is_counted_without_being_built() -> None:
    axes = {key: tuple(range(1000)) for key in ("mixup", "cutmix", "lr")}
    assert count_trials(sweep_of(axes=axes)) == 10**9


def random_sweep(**fields: Any) -> SweepConfig:
    axes = {
        "lr": Distribution(kind="loguniform", low=1e-5, high=1e-2),
        "mixup": Distribution(kind="uniform", low=0, high=1),
        "epochs": Distribution(kind="randint", low=3, high=6),
        "augment": ("none", "light"),
    }
    fields = {"axes": axes, "search": Search(kind="random", num_trials=40), **fields}
    return sweep_of(**fields)


def test_draws_repeat_themselves_and_differ_from_each_other() -> None:
    sweep = random_sweep()
    draws = [sample(sweep, i) for i in range(40)]
    assert draws == [sample(sweep, i) for i in range(40)]
    assert len({draw["lr"] for draw in draws}) == 40
    assert {draw["epochs"] for draw in draws} == {3, 4, 5}
    assert {draw["augment"] for draw in draws} == {"none", "light"}
    assert all(1e-5 <= draw["lr"] <= 1e-2 and 0 <= draw["mixup"] <= 1 for draw in draws)
    below = sum(draw["lr"] < 10**-3.5 for draw in draws)
    assert 10 <= below <= 30  # half of a log range lies below its geometric middle


def test_an_axis_more_leaves_the_other_draws_alone() -> None:
    sweep = random_sweep()
    more = random_sweep(axes={"drop_rate": (0.0, 0.5), **sweep.axes})
    drawn, again = sample(sweep, 3), sample(more, 3)
    assert {key: again[key] for key in drawn} == drawn


def test_draws_keep_zipped_rows_and_exclusions() -> None:
    group = {"image_size": (32, 64), "batch_size": (128, 64)}
    sweep = random_sweep(zip=(group,), exclude=({"augment": "none"},))
    for i in range(20):
        draw = sample(sweep, i)
        assert (draw["image_size"], draw["batch_size"]) in {(32, 128), (64, 64)}
        assert draw["augment"] == "light"
        assert config_from(sweep, draw, 5).seed == 5


def test_a_draw_runs_with_the_seeds_and_folds_that_are_not_left_out() -> None:
    sweep = random_sweep(
        trial={"split": {"folds": 2}},
        axes={"lr": (0.1, 0.2), "mixup": Distribution(kind="uniform", low=0, high=1)},
        exclude=({"lr": 0.1, "seed": 1}, {"lr": 0.2, "split.fold": 0}),
        seeds=(0, 1),
    )
    configs = list(expand(sweep))
    told = {(config.lr, config.seed, config.split.fold) for config in configs}
    assert told == {(0.1, 0, 0), (0.1, 0, 1), (0.2, 0, 1), (0.2, 1, 1)}
    assert count_trials(sweep) == len(configs) == 80


def test_what_leaves_nothing_out_is_found() -> None:
    axes = {"lr": (0.1, 0.2), "augment": ("none", "light")}
    partials = ({"lr": 0.3}, {"lr": 0.1}, {"lr": 0.2, "seed": 5}, {"augment": {"preset": "light"}})
    sweep = sweep_of(axes=axes, exclude=partials, seeds=(0, 1))
    assert idle_exclusions(sweep) == [0, 2]
    assert idle_exclusions(sweep_of(axes=axes)) == []
    assert idle_exclusions(random_sweep(exclude=({"lr": 0.3},))) == []  # which a range may draw


def test_a_search_with_nothing_left_says_so() -> None:
    sweep = random_sweep(exclude=({"augment": "none"}, {"augment": "light"}))
    with pytest.raises(CannotFinish, match="no allowed config"):
        sample(sweep, 0)


def test_count_of_a_search_is_draws_times_seeds() -> None:
    assert count_trials(random_sweep(seeds=(0, 1))) == 80


def test_a_search_draws_no_config_twice_and_ends_with_what_there_is() -> None:
    axes = {"augment": ("none", {"flip": 0.5}, "light"), "lr": (0.1, 0.2, 0.3, 0.4)}
    few = random_sweep(axes=axes, seeds=(0, 1), search=Search(kind="random", num_trials=7))
    many = random_sweep(axes=axes, seeds=(0, 1))
    for sweep, num in ((few, 7), (many, 12)):
        assert len({str(config) for config in expand(sweep)}) == 2 * num
        assert len(list(expand(sweep))) == count_trials(sweep) == 2 * num
        assert count_draws(sweep) == num
    assert list(draws(many))[:7] == list(draws(few))  # more of them are more of the same
    repeated = {str(sample(many, i)) for i in range(40)}
    assert {str(point) for point in draws(many)} >= repeated


def test_draws_that_do_not_repeat_are_those_of_their_places() -> None:
    sweep = random_sweep()
    assert list(draws(sweep)) == [sample(sweep, i) for i in range(40)]


def test_differing_fields_are_flat_and_in_order() -> None:
    axes = {"augment": ("none", "light"), "split.train": (0.7, 0.8), "lr": (0.1,)}
    configs = list(expand(sweep_of(axes=axes)))
    assert differing_fields(configs) == ["split.train", "split.val", "augment"]
    assert differing_fields(configs[:1]) == differing_fields([]) == []


def folds_of(sweep: SweepConfig) -> list[tuple[int, int, int]]:
    return [(trial.split.folds, trial.split.fold, trial.seed) for trial in expand(sweep)]


def test_a_config_with_folds_is_one_trial_per_seed_and_fold() -> None:
    sweep = sweep_of(trial={"split": {"folds": 3}}, seeds=(0, 7))
    assert folds_of(sweep) == [(3, fold, seed) for seed in (0, 7) for fold in range(3)]
    (split,) = {trial.split.model_copy(update={"fold": 0}) for trial in expand(sweep)}
    assert (split.train, split.val, split.test) == (0.6, 0.3, 0.1)
    assert count_trials(sweep) == 6


def test_one_fold_alone_is_run_where_it_is_asked_for() -> None:
    sweep = sweep_of(trial={"split": {"folds": 3, "fold": 1}})
    assert folds_of(sweep) == [(3, 1, 0)]
    assert count_trials(sweep) == 1
    some = sweep_of(trial={"split": {"folds": 3}}, axes={"split.fold": (0, 2)})
    assert folds_of(some) == [(3, 0, 0), (3, 2, 0)]


@pytest.mark.parametrize(
    "axes",
    [
        {"split.folds": (0, 2, 5), "lr": (0.1, 0.2)},
        {"split": ({"folds": 2}, {"folds": 4, "fold": 3}, {}), "lr": (0.1, 0.2)},
    ],
)
def test_folds_on_an_axis_are_counted_as_they_are_run(axes: dict[str, Any]) -> None:
    sweep = sweep_of(axes=axes, seeds=(0, 1))
    assert count_trials(sweep) == len(list(expand(sweep)))
    drawn = sweep.model_copy(update={"search": Search(kind="random", num_trials=4)})
    runs = [len(list(replicas(drawn, point))) for point in draws(drawn)]
    assert len(runs) == 4
    assert count_trials(drawn) == sum(runs) == len(list(expand(drawn)))


def test_folds_in_a_zip_group_are_counted_as_they_are_run() -> None:
    group = {"split.folds": (0, 4), "epochs": (20, 5)}
    sweep = sweep_of(zip=(group,), axes={"lr": (0.1, 0.2, 0.3)})
    assert count_trials(sweep) == len(folds_of(sweep)) == 15


def test_a_fold_can_be_left_out() -> None:
    sweep = sweep_of(trial={"split": {"folds": 3}}, exclude=({"split.fold": 1},))
    assert folds_of(sweep) == [(3, 0, 0), (3, 2, 0)]
    assert count_trials(sweep) == 2


def test_a_huge_product_with_folds_is_counted_without_being_built() -> None:
    axes = {key: tuple(range(1000)) for key in ("mixup", "cutmix")}
    assert count_trials(sweep_of(axes={**axes, "split.folds": (0, 5)})) == 6 * 10**6


def test_the_splits_of_a_grid_are_those_of_its_listed_axes() -> None:
    axes = {
        "split.train": (0.7, 0.8),
        "split.seed": Distribution(kind="randint", low=0, high=9),
        "lr": (0.1, 0.2),
    }
    assert [split.train for split in split_choices(sweep_of(axes=axes))] == [0.7, 0.8]
