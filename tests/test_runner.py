"""What a run of a sweep does before and after Ray Tune has its trials."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from raylab.config.grid import read_grid
from raylab.config.sweep import Budget, Resources, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.enough import undecoded
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.sweep import runner
from raylab.sweep.allowance import Allowance
from raylab.sweep.lock import Hold, Holder
from raylab.sweep.plan import Plan
from raylab.sweep.queue import ListProposer, TrialQueue
from raylab.sweep.runner import Sweeping


@pytest.mark.parametrize(
    ("kind", "fresh", "left"),
    [
        ("grid", False, {"failed", "planned", "not planned"}),
        ("random", False, {"failed", "planned", "not planned"}),
        ("optuna", False, {"failed", "planned", "not planned"}),
        ("pbt", False, {"failed", "planned", "not planned"}),
        ("grid", True, set()),
        ("optuna", True, set()),
    ],
)
def test_a_run_begins_with_the_states_that_trials_may_go_on_from(
    tmp_path: Path, kind: str, fresh: bool, left: set[str]
) -> None:
    """Also those that a narrower grid leaves out: the wider one goes on from them."""
    results, view = ResultsDirectory(tmp_path), Mock()
    for name in ("complete", "failed", "planned", "not planned"):
        results.write_state(name, b"state")
    known = {name: SimpleNamespace(status=name) for name in ("complete", "failed")}
    run: Any = SimpleNamespace(
        results=results,
        view=view,
        reusable={} if fresh else known,
        sweep=SimpleNamespace(search=SimpleNamespace(kind=kind)),
        options=SimpleNamespace(fresh=fresh),
    )
    Sweeping.clear_states(run, ("complete", "failed", "planned"))
    assert results.state_ids() == left
    told = [call.args[0] for call in view.note.call_args_list]
    where = tmp_path / "states"
    expected = f"states of trials that this grid leaves out: 1; they stay in {where} till --fresh"
    assert told == ([expected] if left and kind in ("grid", "random") else [])


@pytest.mark.parametrize(
    ("budget", "rate", "minutes", "spent"),
    [
        (Budget(hours=1.5), None, 89, None),
        (Budget(hours=1.5), None, 90, "budget.hours 1.5"),
        (Budget(hours=1.5, usd=3), 4.0, 50, "budget.usd 3"),
        (Budget(usd=3), 4.0, 44, None),
        (Budget(), 4.0, 10_000, None),
    ],
)
def test_a_sweep_that_its_budget_ends_says_what_is_left_and_how_to_go_on(
    budget: Budget, rate: float | None, minutes: float, spent: str | None
) -> None:
    resources = Resources(usd_per_hour=rate)
    sweep = SweepConfig(name="s", data="toy", budget=budget, resources=resources)
    allowance = Allowance(sweep, time.monotonic() - 60 * minutes)
    assert allowance.may_start() == (spent is None)
    queue = SimpleNamespace(is_cut_short=spent is not None, started={"a", "b"})
    run: Any = SimpleNamespace(plan=SimpleNamespace(num_trials=30), allowance=allowance)
    collector: Any = SimpleNamespace(queue=queue, advice=None)
    text = "is spent: 25 of 30 trials were not started; the same command goes on with as much again"
    expected = None if spent is None else f"{spent} {text}"
    assert Sweeping.advice(run, collector, ("c", "d", "e")) == expected


def test_a_sweep_ends_with_its_records_in_brief_in_the_order_that_was_asked_for(
    tmp_path: Path,
) -> None:
    results = ResultsDirectory(tmp_path)
    epochs = [{"epoch": 1, "val_accuracy": 0.5}]
    made = [
        record_from(TrialConfig(seed=seed), "data", "split", epochs, "complete")
        for seed in range(3)
    ]
    for record in made:
        results.add(record)
    run: Any = SimpleNamespace(results=results)
    names = [record.trial_id for record in (made[2], made[0])]
    found = Sweeping.records_of(run, [*names, "without a record"])
    assert [record.trial_id for record in found] == names
    assert [record.row() for record in found] == [made[2].row(), made[0].row()]
    assert [(record.epochs, record.trial) for record in found] == [((), {})] * 2


def tuned(place: Path, fit: Callable[[], None], asked: int) -> None:
    """Hand a queue of two trials to a Tune that asks for so many of them and then does `fit`."""
    queue = TrialQueue(
        ListProposer(iter([TrialConfig(seed=seed) for seed in (0, 1)])),
        lambda config: f"seed {config.seed}",
        lambda identity: (False, None),
        lambda: True,
        "val_accuracy",
    )
    for number in range(asked):
        queue.suggest(str(number))
    run: Any = SimpleNamespace(results=ResultsDirectory(place), hold=Hold())
    run.tuner = lambda *given: SimpleNamespace(fit=fit)
    Sweeping.tune(run, Mock(), queue, Mock(), ())


def test_a_trial_without_a_record_is_not_passed_over_when_tune_has_ended(tmp_path: Path) -> None:
    tuned(tmp_path, lambda: None, asked=0)
    with pytest.raises(CannotFinish, match=r"trial seed 0 was .* the same command goes on"):
        tuned(tmp_path, lambda: None, asked=1)


def test_an_interrupted_sweep_is_told_as_such_whatever_ran(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path, interrupt, asked=2)


@pytest.mark.parametrize("taken_by", [None, Holder("other", 7, "2026", "another")])
def test_what_ray_kept_while_it_ran_goes_unless_another_process_runs_the_sweep(
    tmp_path: Path, taken_by: Holder | None
) -> None:
    results = ResultsDirectory(tmp_path)
    results.scratch("tune").write_bytes("state.json", b"")
    run: Any = SimpleNamespace(results=results, hold=Hold(taken_by))
    run.tuner = lambda *given: SimpleNamespace(fit=lambda: None)
    Sweeping.tune(run, Mock(), Mock(), Mock(), ())
    assert (tmp_path / "scratch").exists() == (taken_by is not None)


def test_what_optuna_has_left_is_told_by_the_epochs_that_its_axes_allow(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "data: toy\naxes: {epochs: [5, 50], lr: {uniform: [0.1, 0.2]}}\n"
        "search: {optuna: {num_trials: 10}}\n"
    )
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    run: Any = SimpleNamespace(sweep=plan.sweep, plan=plan, view=Mock(), slot=Mock(num_slots=2))
    reused: Any = [Mock()] * 2
    Sweeping.announce(run, reused, 0)
    run.view.planned.assert_called_once_with(10, reused, 2, 8 * 55 / 2)


def test_a_class_that_could_not_be_decoded_is_told_with_the_reason_of_each_image_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grid.yaml").write_text("data: toy\n")
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    images = undecoded(plan.source)
    status = ["damaged" if label == "sad" else "ok" for label in images["label"].to_pylist()]
    table = images.set_column(images.column_names.index("status"), "status", [status])
    monkeypatch.setattr(runner, "prepare", lambda *given: SimpleNamespace(crop="none"))
    monkeypatch.setattr(runner, "image_table", lambda *given: table)
    results = ResultsDirectory(tmp_path / "results")
    run: Any = SimpleNamespace(plan=plan, results=results, view=Mock())
    with pytest.raises(Refused, match=r"images\.parquet  class 'sad': 0 usable of 16 .*: damaged"):
        Sweeping.prepare(run)
    assert results.images()["status"].to_pylist() == status
