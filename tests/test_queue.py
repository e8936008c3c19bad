"""Which trial Tune is given next; Optuna's draws and their return."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.results.record import record_from
from raylab.sweep.draws import assignment_of, drawn_for, draws_over
from raylab.sweep.queue import (
    UNFIT,
    ListProposer,
    OptunaProposer,
    Outcome,
    TrialQueue,
    outcome_of,
)

SEARCH = """
name: drawn
data: toy
axes:
  lr: {loguniform: [1.0e-4, 1.0e-2]}
  augment: [none, {preset: light, rotate_deg: 10}]
zip: [{model: [cnn, resnet18], drop_rate: [0.1, 0.3]}]
search: {optuna: {num_trials: 4}}
seeds: [0, 1]
"""


@pytest.fixture
def drawn(tmp_path: Path) -> SweepConfig:
    (tmp_path / "drawn.yaml").write_text(SEARCH)
    return read_grid(tmp_path / "drawn.yaml")


def configs() -> Iterator[TrialConfig]:
    return (TrialConfig(lr=lr) for lr in (1e-1, 1e-2, 1e-3))


def queue(finished: dict[str, Outcome], may_start: Any = lambda: True) -> TrialQueue:
    def recorded(identity: str) -> tuple[bool, Outcome]:
        return identity in finished, finished.get(identity)

    def identify(config: TrialConfig) -> str:
        return f"lr {config.lr}"

    return TrialQueue(ListProposer(configs()), identify, recorded, may_start, "val_accuracy")


def all_of(trials: TrialQueue) -> list[str]:
    given = []
    while (params := trials.suggest("x")) != Searcher.FINISHED:
        assert params is not None
        given.append(params["trial_id"])
    return given


def test_every_config_is_given_once() -> None:
    assert all_of(queue({})) == ["lr 0.1", "lr 0.01", "lr 0.001"]


def test_finished_trials_are_passed_over() -> None:
    assert all_of(queue({"lr 0.01": 0.5})) == ["lr 0.1", "lr 0.001"]


def test_nothing_is_given_once_the_budget_is_spent() -> None:
    answers = iter([True, True, False])
    trials = queue({}, lambda: next(answers))
    assert all_of(trials) == ["lr 0.1", "lr 0.01"]
    assert trials.is_cut_short


def test_a_budget_that_is_spent_with_the_last_trial_cuts_nothing_short() -> None:
    answers = iter([True, True, False])
    trials = queue({"lr 0.001": 0.5}, lambda: next(answers))
    assert all_of(trials) == ["lr 0.1", "lr 0.01"]
    assert not trials.is_cut_short


def test_a_trial_that_was_given_and_never_ended_is_no_finished_sweep() -> None:
    trials = queue({})
    all_of(trials)
    for name in ("lr 0.1", "lr 0.001"):
        trials.ended(name, 0.5)
    with pytest.raises(CannotFinish, match=r"trial lr 0\.01 was started and never ended"):
        trials.check_ended()
    trials.ended("lr 0.01", None)
    trials.check_ended()


class Heard(ListProposer):
    """Remembers what it was told."""

    def __init__(self, given: Iterator[TrialConfig]) -> None:
        super().__init__(given)
        self.told: list[Outcome] = []

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        self.told.append(outcome)


def test_a_config_that_is_drawn_again_runs_once_and_each_draw_hears_of_it() -> None:
    heard = Heard(iter([TrialConfig(lr=lr) for lr in (0.1, 0.1, 0.2, 0.1)]))
    trials = TrialQueue(
        heard, lambda c: f"lr {c.lr}", lambda name: (False, None), lambda: True, "val_accuracy"
    )
    assert [trials.suggest("x")["trial_id"] for _ in range(2)] == ["lr 0.1", "lr 0.2"]
    assert heard.told == []
    trials.ended("lr 0.1", 0.7)
    assert heard.told == [0.7, 0.7]
    assert trials.suggest("x") == Searcher.FINISHED
    assert heard.told == [0.7, 0.7, 0.7]


def proposer(sweep: SweepConfig, kept: list[Any]) -> OptunaProposer:
    def remember(assignments: list[dict[str, Any]]) -> None:
        kept[:] = assignments

    return OptunaProposer(sweep, lambda config: config, 8, remember)


def proposed(found: OptunaProposer) -> list[TrialConfig]:
    given = []
    while (config := found.propose()) is not None:
        given.append(config)
        found.observe(config, config.lr)
    return given


def test_optuna_gives_each_draw_with_each_seed(drawn: SweepConfig) -> None:
    given = proposed(proposer(drawn, []))
    assert [config.seed for config in given] == [0, 1] * 4
    for first, second in zip(given[::2], given[1::2], strict=True):
        assert first == second.model_copy(update={"seed": 0})
        assert first.drop_rate == {"cnn": 0.1, "resnet18": 0.3}[first.model]


def test_optuna_is_told_the_mean_over_seeds(drawn: SweepConfig) -> None:
    found = proposer(drawn, [])
    for outcome in (0.5, 0.7):
        config = found.propose()
        assert config is not None
        found.observe(config, outcome)
    assert found.study.trials[0].value == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [((0.5, None), "FAIL"), ((0.5, UNFIT), "PRUNED"), ((UNFIT, None), "PRUNED")],
)
def test_a_failed_seed_fails_the_draw(
    drawn: SweepConfig, outcomes: tuple[Outcome, Outcome], state: str
) -> None:
    found = proposer(drawn, [])
    for outcome in outcomes:
        config = found.propose()
        assert config is not None
        found.observe(config, outcome)
    assert found.study.trials[0].state.name == state


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("diverged", UNFIT),
        ("OutOfMemory", UNFIT),
        ("ValueError", UNFIT),
        ("ProcessDied", None),
        ("NodeLost", None),
        ("timeout", None),
    ],
)
def test_only_what_failed_of_its_config_says_something_of_it(kind: str, outcome: Outcome) -> None:
    record = record_from(TrialConfig(), "data", "split", [], "failed", error_kind=kind)
    assert outcome_of(record, "val_accuracy") == outcome


def test_optuna_keeps_away_from_where_trials_diverge(tmp_path: Path) -> None:
    """The best lr, 0.02, is near the edge, 0.1, behind which lies a third of the axis."""
    (tmp_path / "edge.yaml").write_text(
        "data: toy\naxes: {lr: {loguniform: [1.0e-5, 10.0]}}\nsearch: {optuna: {num_trials: 40}}"
    )
    found, drawn = proposer(read_grid(tmp_path / "edge.yaml"), []), []
    found.num_left = 40
    while (config := found.propose()) is not None:
        drawn.append(config.lr)
        value = 0.7 - 0.1 * abs(math.log10(config.lr / 0.02))
        found.observe(config, UNFIT if config.lr > 0.1 else value)
    assert sum(lr > 0.1 for lr in drawn[20:]) <= 7


def test_a_resumed_search_draws_again_what_it_drew(drawn: SweepConfig) -> None:
    kept: list[dict[str, Any]] = []
    before = proposed(proposer(drawn, kept))
    resumed = proposer(drawn, [])
    resumed.recall(kept[:3])
    assert proposed(resumed)[:6] == before[:6]


def test_a_resumed_search_goes_on_with_new_draws(tmp_path: Path) -> None:
    (tmp_path / "drawn.yaml").write_text(
        "data: toy\naxes: {lr: {loguniform: [1.0e-4, 1.0e-2]}, drop_rate: {uniform: [0, 0.5]}}\n"
        "search: {optuna: {num_trials: 8}}"
    )
    sweep = read_grid(tmp_path / "drawn.yaml")
    kept: list[dict[str, Any]] = []
    for num_left in (3, 5, 8):  # it is interrupted twice
        found = proposer(sweep, kept)
        found.recall(kept)
        found.num_left = num_left
        given = proposed(found)
        assert len(set(given)) == num_left
    assert len(kept) == 8


def test_draws_of_which_a_second_run_did_not_come_to_are_remembered(drawn: SweepConfig) -> None:
    kept: list[dict[str, Any]] = []
    proposed(proposer(drawn, kept))
    remembered: list[dict[str, Any]] = []
    resumed = proposer(drawn, remembered)
    resumed.recall(kept[:3])
    for _ in range(6):  # three draws, each with two seeds
        resumed.propose()
    assert remembered == []  # nothing is new, and nothing is written
    resumed.propose()
    assert (remembered[:3], len(remembered)) == (kept[:3], 4)
    again = proposer(drawn, remembered)
    again.recall(kept)
    again.num_left = 1
    again.propose()
    assert again.assignments == kept


def test_what_was_drawn_before_is_known_before_it_is_proposed_again(drawn: SweepConfig) -> None:
    kept: list[dict[str, Any]] = []
    before = proposed(proposer(drawn, kept))
    resumed = proposer(drawn, [])
    assert list(resumed.recalled()) == []
    resumed.recall([{"lr": 0.001}, *kept[:2]])  # the first is of other axes
    assert list(resumed.recalled()) == before[:4]
    assert proposed(resumed)[:4] == before[:4]


def test_draws_that_the_axes_no_longer_allow_are_forgotten(drawn: SweepConfig) -> None:
    point = {"lr": 0.001, "augment": "none", "model": "cnn", "drop_rate": 0.1}
    known = drawn_for(drawn, point)
    assert known is not None
    assert assignment_of(drawn, known) == point
    assert drawn_for(drawn, {**point, "augment": "strong"}) is None
    assert drawn_for(drawn, {**point, "drop_rate": 0.3}) is None
    assert drawn_for(drawn, {**point, "epochs": 5}) is None


def test_what_may_be_drawn_weighs_as_it_is_drawn(tmp_path: Path) -> None:
    text = (
        "data: toy\naxes: {lr: {uniform: [0.1, 0.2]}, warmup_epochs: [1, 9], epochs: [5, 20]}\n"
        "zip: [{model: [cnn, cnn, resnet18], weight_decay: [0.1, 0.2, 0.3]}]\n"
        "search: {optuna: {num_trials: 4}}"
    )
    (tmp_path / "grid.yaml").write_text(text)
    sweep = read_grid(tmp_path / "grid.yaml")
    found = draws_over(sweep, frozenset({"model"}), lambda config: config)
    drawn = Counter((config.model, config.epochs, config.warmup_epochs) for config in found)
    per_model = {"cnn": 2, "resnet18": 1}
    points = [(5, 1), (20, 1), (20, 9)]  # 9 epochs of warmup do not fit into 5
    assert drawn == {(model, *each): n for model, n in per_model.items() for each in points}
    assert draws_over(sweep, frozenset({"model"}), lambda config: config) == found


def test_optuna_gives_each_draw_with_each_fold_and_is_told_their_mean(tmp_path: Path) -> None:
    text = SEARCH.replace("seeds:", "trial: {split: {folds: 2}}\nseeds:")
    (tmp_path / "folds.yaml").write_text(text)
    found = proposer(read_grid(tmp_path / "folds.yaml"), [])
    runs = []
    for outcome in (0.1, 0.2, 0.3, 0.6):
        config = found.propose()
        assert config is not None
        runs.append((config.seed, config.split.fold))
        found.observe(config, outcome)
    assert runs == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found.study.trials[0].value == pytest.approx(0.3)
