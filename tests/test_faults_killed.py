"""Processes killed with -9: the driver at random moments, a trial mid-epoch, one of two workers;
and what Ctrl-C and SIGTERM leave behind.
"""

import contextlib
import io
import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from faults import Run, assert_learned_the_same, board_of, states, write_grid

from raylab.config.grid import read_grid
from raylab.sweep.runner import Options, run_sweep

pytestmark = pytest.mark.slow
MANY = "axes: {lr: [1.0e-2, 3.0e-3, 1.0e-3, 3.0e-4]}\nseeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
NUM_KILLS = int(os.environ.get("RAYLAB_TEST_KILLS", "2"))
# Long enough to be met in the middle, with a checkpoint after nearly every epoch.
LONG = ("--set", "trial.epochs=150")
ENDLESS = ("--set", "trial.epochs=10000")
OFTEN = {"RAYLAB_CHECKPOINT_EVERY_S": "0.2"}


@pytest.fixture
def undisturbed(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Runs a grid in this process, where nothing happens to it, and gives its results."""
    monkeypatch.setenv("RAYLAB_CACHE", str(tmp_path / "cache"))

    def run(grid: str, *overrides: str) -> Path:
        wanted = read_grid(tmp_path / grid, overrides=overrides)
        assert run_sweep(wanted, Options(str(tmp_path / "whole"), quiet=True)).exit_code == 0
        return tmp_path / "whole"

    return run


def records(results: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (results / "records").glob("*.json")}


def half_written(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def wait_for_moment(moment: str, run: Run, results: Path, draw: random.Random) -> None:
    """Return at about that moment of the run, or when it is over."""
    num_records = len(records(results))
    arrived: dict[str, Callable[[], object]] = {
        "any": lambda: True,
        "preparation": lambda: (results.parent / "fresh cache" / "prepared").is_dir(),
        "first trial": lambda: (results / "scratch" / "tune").is_dir(),
        "mid-epoch": lambda: len(records(results)) > num_records,
        "record": lambda: half_written(results / "records"),
        "gathering": lambda: half_written(results),
    }
    longest_s = {"any": 12.0, "preparation": 0.5, "first trial": 6.0, "mid-epoch": 0.5}
    while not (run.is_over or arrived[moment]()):
        time.sleep(0.0002)  # a record is written in less than a millisecond
    time.sleep(draw.uniform(0.0, longest_s.get(moment, 0.0)))


@pytest.mark.timeout(300 + 120 * NUM_KILLS)
def test_a_driver_killed_at_random_moments_ends_as_one_that_was_not(
    tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    grid, results, fresh = write_grid(tmp_path, MANY), tmp_path / "killed", tmp_path / "fresh cache"
    command = ("sweep", grid, "--results", "killed")
    draw = random.Random(time.time_ns())
    moments = ["any", "preparation", "first trial", "mid-epoch", "record", "gathering"]
    draw.shuffle(moments)
    finished: dict[str, int] = {}
    met, killed = [], []
    for moment in itertools.islice(itertools.cycle(moments), NUM_KILLS):
        is_fresh = moment == "preparation"
        run = Run(tmp_path, *command, **({"RAYLAB_CACHE": str(fresh)} if is_fresh else {}))
        wait_for_moment(moment, run, results, draw)
        was_over = run.is_over
        run.kill()
        now = records(results)
        assert now.items() >= finished.items()  # nothing lost, nothing run again
        finished = now
        torn = len(half_written(results)) + len(half_written(results / "records"))
        met.append(f"{moment}{' (over)' if was_over else ''}: {len(now)} records, {torn} torn")
        killed.append(run)
    last = Run(tmp_path, *command)
    assert last.wait() == 0, last.story
    for run in killed:  # Ray's agents look for their dead raylet once a minute
        run.check_nothing_is_left(timeout_s=90)
    assert records(results).items() >= finished.items()
    assert_learned_the_same(results, undisturbed(grid))
    assert not (results / "scratch").exists()
    print(f"driver kill -9: {NUM_KILLS} tried and survived", *met, sep="\n  ")


def test_a_killed_trial_goes_on_and_ends_as_one_that_was_not(
    tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    grid, results = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n"), tmp_path / "killed"
    run = Run(tmp_path, "sweep", grid, "--results", "killed", *LONG, **OFTEN)
    assert run.until(lambda: len(states(results)) >= 2), run.story
    os.kill(run.trial_pids()[0], signal.SIGKILL)
    assert run.wait() == 0, run.story
    assert sorted(board_of(results)["num_restarts"]) == [0, 1]
    assert "started again" in run.story
    assert "Traceback" not in run.story
    (log,) = (results / "logs").iterdir()
    assert "died" in log.read_text()
    assert_learned_the_same(results, undisturbed(grid, LONG[1]), "num_restarts")
    run.check_nothing_is_left()


def test_a_trial_that_always_dies_is_tried_three_times_and_the_sweep_goes_on(
    tmp_path: Path,
) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3]}\n")
    run = Run(tmp_path, "sweep", grid, "--results", "r", *ENDLESS)
    killed: set[int] = set()
    while not run.is_over:
        for pid in set(run.trial_pids()) - killed:
            killed.add(pid)
            time.sleep(0.5)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    assert run.wait() == 1, run.story
    (row,) = board_of(tmp_path / "r").to_dict("records")
    assert (row["status"], row["error_kind"], row["num_restarts"]) == ("failed", "ProcessDied", 2)
    assert "1 failed: ProcessDied: " in run.story
    assert "Traceback" not in run.story
    run.check_nothing_is_left()


def test_a_killed_worker_of_two_costs_one_restart(
    tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    # Only what a scheduler may prune writes its predictions after every better epoch.
    pair = "resources: {workers: 2}\nscheduler: {asha: {grace_epochs: 20}}\n"
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3], epochs: [30]}\n" + pair)
    run = Run(tmp_path, "sweep", grid, "--results", "r")
    predictions = tmp_path / "r" / "predictions"
    assert run.until(lambda: predictions.is_dir() and any(predictions.iterdir())), run.story
    os.kill(run.pids_named(b"RayTrainWorker")[0], signal.SIGKILL)
    assert run.wait() == 0, run.story
    (row,) = board_of(tmp_path / "r").to_dict("records")
    assert (row["status"], row["num_restarts"], row["num_epochs"]) == ("complete", 1, 30)
    assert_learned_the_same(tmp_path / "r", undisturbed(grid), "num_restarts")
    run.check_nothing_is_left()


@pytest.mark.parametrize("how", ["ctrl_c", "kill"])
def test_trials_of_an_interrupted_sweep_go_on_and_end_as_ones_that_were_not(
    tmp_path: Path, undisturbed: Callable[..., Path], how: str
) -> None:
    grid, results = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n"), tmp_path / "r"
    command = ("sweep", grid, "--results", "r", *LONG)
    first = Run(tmp_path, *command, **OFTEN)
    assert first.until(lambda: len(states(results)) == 2), first.story
    if how == "kill":
        first.kill()
    else:
        first.press_ctrl_c()
        assert first.wait(60) == 130, first.story
    assert not records(results)
    held = {path.name: path.read_bytes() for path in states(results)}
    again = Run(tmp_path, *command)
    assert again.wait() == 0, again.story
    board = board_of(results)
    assert list(board["num_restarts"]) == [1, 1]
    assert list(board["num_epochs"]) == [150, 150]
    for name, content in held.items():  # what was told again is what was heard before
        rows = torch.load(io.BytesIO(content), weights_only=True)["epochs"]
        epochs = pd.read_parquet(results / "epochs.parquet").query(f"trial_id == '{name[:-3]}'")
        assert list(epochs["seconds"])[: len(rows)] == [row["seconds"] for row in rows]
        assert float(board.set_index("trial_id")["seconds"][name[:-3]]) > sum(epochs["seconds"])
    assert not states(results)
    assert_learned_the_same(results, undisturbed(grid, LONG[1]), "num_restarts")


def test_a_state_is_not_gone_on_from_where_it_is_torn_or_of_another_metric(tmp_path: Path) -> None:
    grid, results = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n"), tmp_path / "r"
    first = Run(tmp_path, "sweep", grid, "--results", "r", *LONG, **OFTEN)
    assert first.until(lambda: len(states(results)) == 2), first.story
    first.press_ctrl_c()
    assert first.wait(60) == 130, first.story
    states(results)[0].write_bytes(b"")
    again = Run(tmp_path, "sweep", grid, "--results", "r", *LONG, "--set", "metric=val_loss")
    assert again.wait() == 0, again.story
    assert list(board_of(results)["num_restarts"]) == [0, 0]
    assert not states(results)


@pytest.mark.parametrize("how", ["ctrl_c", "ctrl_c_twice", "sigterm"])
def test_an_interrupt_ends_all_processes_and_keeps_what_is_finished(
    tmp_path: Path, how: str
) -> None:
    grid = write_grid(tmp_path, "axes: {epochs: [1, 10000]}\nseeds: [0, 1]\n")
    run = Run(tmp_path, "sweep", grid, "--results", "r")
    assert run.until(lambda: len(records(tmp_path / "r")) == 2), run.story
    if how == "sigterm":
        run.process.terminate()
    else:
        run.press_ctrl_c()
    if how == "ctrl_c_twice":
        time.sleep(0.3)
        run.press_ctrl_c()
    assert run.wait(60) == 130, run.story
    assert "Traceback" not in run.story
    run.check_nothing_is_left(10)
    assert not (tmp_path / "r" / "sweep.lock").exists()
    assert set(board_of(tmp_path / "r")["num_epochs"]) == {1}
