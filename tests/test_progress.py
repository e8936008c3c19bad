"""What people see of a sweep: lines in a log, a table in a terminal, nothing when quiet."""

import io
from typing import Any

import pytest
from rich.console import Console

from raylab.config.trial import TrialConfig
from raylab.events.progress import LiveView, LogView, View, Views, make_view
from raylab.events.tally import Tally, short_name
from raylab.results.durations import clock
from raylab.results.record import Record, Status, record_from


def record(lr: float, accuracy: float, status: Status = "complete", **more: Any) -> Record:
    epoch = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 1.0}
    config = TrialConfig(lr=lr, epochs=2)
    return record_from(config, "data", "split", [epoch], status, num_val=100, **more)


def row(epoch: int) -> dict[str, Any]:
    measures = {"train_loss": 1.5, "val_accuracy": 0.5, "train_images_per_s": 100.0}
    return {"epoch": epoch, **measures}


def run_three_trials(view: View) -> None:
    """One completes, one is pruned, one fails."""
    view.planned(3, [], 2, 6)
    endings: list[tuple[float, Status, dict[str, Any]]] = [
        (1e-2, "complete", {}),
        (1e-3, "pruned", {}),
        (1e-4, "failed", {"error_kind": "diverged", "error": "loss became nan"}),
    ]
    for lr, status, more in endings:
        ended = record(lr, 0.6, status, **more)
        view.started(ended.trial_id, TrialConfig(lr=lr, epochs=2))
        view.epoch(ended.trial_id, row(1))
        view.ended(ended)
    view.close()


def test_log_has_one_line_per_event() -> None:
    sink = io.StringIO()
    run_three_trials(LogView(Console(file=sink, width=60), "val_accuracy", ["lr"]))
    lines = sink.getvalue().splitlines()
    assert len(lines) == 5
    assert "3 trials, 2 at a time" in lines[0]
    assert "lr=0.01  val_accuracy 0.6000 [0.5020, 0.6906]" in lines[1]
    assert "1/3 trials" in lines[1]
    assert "diverged: loss became nan" in lines[3]
    assert "3/3 trials · 1 complete · 1 pruned · 1 failed" in lines[4]
    assert "best val_accuracy 0.6000" in lines[4]


def test_a_note_tells_no_password_of_a_storage() -> None:
    sink = io.StringIO()
    Views(LogView(Console(file=sink, width=60), "val_accuracy", ["lr"])).note("s3://K:S@bucket/x")
    assert "s3://bucket/x" in sink.getvalue()


def test_terminal_shows_a_table_of_what_runs_and_keeps_only_failures() -> None:
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=100)
    view = LiveView(console, "val_accuracy", ["lr"])
    view.preparing("48 px RGB", 50, 100)
    assert "50/100" in rendered(view)
    view.planned(1, [], 1, 2)
    ended = record(1e-2, 0.6)
    view.started(ended.trial_id, TrialConfig(lr=1e-2, epochs=2))
    assert "lr=0.01" in rendered(view)
    assert "0/2" in rendered(view)
    view.epoch(ended.trial_id, row(1))
    assert "1/2" in rendered(view)
    assert "100 images/s" in rendered(view)
    view.ended(ended)
    view.close()
    assert "1/1 trials" in sink.getvalue()


def rendered(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(view.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_three_trials(make_view(True, "val_accuracy", ["lr"]))
    assert capsys.readouterr() == ("", "")
    run_three_trials(make_view(False, "val_accuracy", ["lr"]))
    assert "3/3 trials" in capsys.readouterr().err


def test_an_interrupted_sweep_ends_with_nothing_running() -> None:
    sink = io.StringIO()
    view = LogView(Console(file=sink, width=60), "val_accuracy", ["lr"])
    view.planned(2, [], 1, 4)
    view.started("aaa", TrialConfig(lr=1e-2, epochs=2))
    view.epoch("aaa", row(1))
    view.close()
    last = sink.getvalue().splitlines()[-1]
    assert "0/2 trials; no finished trial yet" in last


def test_a_trial_that_was_started_again_draws_each_epoch_once() -> None:
    tally = Tally("val_accuracy", ["lr"])
    tally.planned(1, [], 1, 3)
    tally.started("aaa", TrialConfig(lr=1e-2, epochs=3))
    for epoch, accuracy in ((1, 0.1), (2, 0.2), (1, 0.15), (2, 0.25), (3, 0.3)):
        tally.epoch("aaa", row(epoch) | {"val_accuracy": accuracy})
    assert tally.snapshot().running[0].curve == (0.15, 0.25, 0.3)


def test_best_is_the_lowest_loss_and_never_a_pruned_or_failed_trial() -> None:
    tally = Tally("val_loss", ["lr"])
    reused = [record(1e-2, 0.6), record(1e-3, 0.7), record(1e-4, 0.9, "pruned")]
    tally.planned(3, reused, 1, 0)
    assert tally.best is not None
    assert tally.best.config["lr"] == 1e-3


def test_time_left_counts_the_epochs_that_a_pruned_trial_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("raylab.events.tally.time.monotonic", lambda: now)
    tally = Tally("val_accuracy", ["lr"])
    tally.planned(4, [], 1, 8)
    pruned = record(1e-3, 0.5, "pruned")
    tally.started(pruned.trial_id, TrialConfig(lr=1e-3, epochs=2))
    now = 10.0
    tally.ended(pruned)
    assert tally.seconds_left == pytest.approx(30.0)


def test_time_left_does_not_count_the_epochs_of_an_interrupted_run_as_done_in_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("raylab.events.tally.time.monotonic", lambda: now)
    tally = Tally("val_accuracy", ["lr"])
    tally.planned(1, [], 1, 200)
    tally.started("aaa", TrialConfig(lr=1e-3, epochs=200))
    for epoch in range(1, 151):
        tally.epoch("aaa", row(epoch) | {"is_replayed": True})
    now = 5.0
    assert tally.seconds_left is None
    tally.epoch("aaa", row(151) | {"is_replayed": False})
    assert tally.seconds_left == pytest.approx(49 * 5.0)
    tally.started("bbb", TrialConfig(lr=1e-4, epochs=200))
    tally.epoch("bbb", row(1))
    now = 10.0
    assert tally.seconds_left == pytest.approx(48 * 5.0)


def test_names_say_only_what_differs() -> None:
    flat = TrialConfig(lr=3e-4).flat()
    assert short_name(flat, ["augment", "lr"]) == "augment=none lr=0.0003"
    assert short_name(flat, []) == "resnet18"
    assert (clock(187), clock(3787)) == ("3:07", "1:03:07")
