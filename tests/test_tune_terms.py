"""A sweep in Tune's terms: what its ASHA knows of trials from before an interruption."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from raylab.config.sweep import Scheduler, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, Status, record_from
from raylab.sweep.tune_terms import Asha, scheduler_of

SURVIVORS = (0.70, 0.72, 0.74)


def asha(metric: str = "val_accuracy") -> Asha:
    kind = Scheduler(kind="asha", grace_epochs=2, reduction_factor=3)
    sweep = SweepConfig(name="asha", data="toy", scheduler=kind, metric=metric)
    found = scheduler_of(sweep, [TrialConfig(epochs=18)])
    assert isinstance(found, Asha)
    return found


def ended(seed: int, values: Mapping[int, float | None], status: Status) -> Record:
    """A record with this val_accuracy after each epoch."""
    rows = [{"epoch": n, "val_accuracy": value, "val_loss": value} for n, value in values.items()]
    return record_from(TrialConfig(seed=seed), "data", "split", rows, status)


def decided(scheduler: Asha, name: str, epoch: int, value: float, replayed: bool = False) -> str:
    trial = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    result = {"epoch": epoch, scheduler.metric: value, "is_replayed": replayed}
    return scheduler.on_trial_result(None, trial, result)


@pytest.fixture
def results(tmp_path: Path) -> ResultsDirectory:
    """What nine pruned trials left, and one that failed."""
    found = ResultsDirectory(tmp_path)
    for seed in range(9):
        found.add(ended(seed, {2: 0.5 + seed / 100, 1: 0.1}, "pruned"))
    found.add(ended(9, {1: 0.1, 2: None}, "failed"))
    return found


def resumed(results: ResultsDirectory, trials: frozenset[str]) -> Asha:
    scheduler = asha()
    scheduler.recall(results.epochs(), trials)
    for value in SURVIVORS:
        assert decided(scheduler, f"survivor {value}", 2, value, replayed=True) == "CONTINUE"
    return scheduler


def test_after_an_interruption_trials_are_compared_with_all_that_ended_before(
    results: ResultsDirectory,
) -> None:
    scheduler = resumed(results, results.finished_ids())
    assert decided(scheduler, "fresh", 2, 0.69) == "CONTINUE"
    assert decided(scheduler, "weak", 2, 0.56) == "STOP"


def test_trials_that_are_not_of_the_sweep_are_not_compared_with(results: ResultsDirectory) -> None:
    scheduler = resumed(results, frozenset())
    assert decided(scheduler, "fresh", 2, 0.69) == "STOP"


def test_a_lower_loss_from_before_counts_as_better(results: ResultsDirectory) -> None:
    scheduler = asha("val_loss")
    scheduler.recall(results.epochs(), results.finished_ids())
    assert decided(scheduler, "low", 2, 0.4) == "CONTINUE"
    assert decided(scheduler, "high", 2, 0.55) == "STOP"


def test_a_trial_that_came_far_before_stands_on_every_rung_that_it_reached(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(ended(0, {n: n / 20 for n in range(1, 19)}, "complete"))
    scheduler = asha()
    scheduler.recall(results.epochs(), results.finished_ids())
    assert decided(scheduler, "slow at first", 2, 0.05) == "STOP"
    assert decided(scheduler, "slow later", 6, 0.2) == "STOP"
    assert decided(scheduler, "as fast", 6, 0.3) == "CONTINUE"
