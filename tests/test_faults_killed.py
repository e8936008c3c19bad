"""Processes killed with -9: the driver at random moments, a trial mid-epoch, one of two workers."""

import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from faults import Run, board_of, learned, shared_memory, write_grid

pytestmark = pytest.mark.slow
MANY = "axes: {lr: [1.0e-2, 3.0e-3, 1.0e-3, 3.0e-4]}\nseeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
NUM_KILLS = int(os.environ.get("RAYLAB_TEST_KILLS", "6"))
# Long enough to be met in the middle, with a checkpoint after nearly every epoch.
LONG = "trial.epochs=150"
OFTEN = {"RAYLAB_CHECKPOINT_EVERY_S": "0.2"}


def records(results: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (results / "records").glob("*.json")}


def states(results: Path) -> list[Path]:
    return list((results / "scratch").rglob("state.pt"))


@pytest.mark.timeout(60 + 40 * NUM_KILLS)
def test_a_driver_killed_at_random_moments_ends_as_one_that_was_not(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, MANY)
    whole = Run(tmp_path, "sweep", grid, "--results", "whole")
    assert whole.wait() == 0, whole.story
    draw, results, met = random.Random(time.time_ns()), tmp_path / "killed", []
    finished: dict[str, int] = {}
    for number in range(NUM_KILLS):
        cache = {"RAYLAB_CACHE": str(tmp_path / "other cache")}
        run = Run(tmp_path, "sweep", grid, "--results", "killed", **cache)
        if number % 3 == 0:  # start, preparation, first trial
            time.sleep(draw.uniform(0.5, 12))
        else:  # while trials run and records are written
            wanted = len(finished) + draw.randint(1, 4)
            run.until(lambda wanted=wanted: len(records(results)) >= wanted)
            time.sleep(draw.uniform(0, 0.3))
        met.append("over" if run.process.poll() is not None else str(len(records(results))))
        run.signal()
        run.wait()
        run.check_nothing_is_left()
        now = records(results)
        assert now.items() >= finished.items()  # nothing lost, nothing run again
        finished = now
    last = Run(tmp_path, "sweep", grid, "--results", "killed")
    assert last.wait() == 0, last.story
    assert records(results).items() >= finished.items()
    for expected, found in zip(learned(tmp_path / "whole"), learned(results), strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert not (results / "scratch").exists()
    print(f"driver kill -9: {NUM_KILLS} tried, {NUM_KILLS} survived; records at the kill: {met}")


def test_a_killed_trial_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n")
    run = Run(tmp_path, "sweep", grid, "--results", "killed", "--set", LONG, **OFTEN)
    assert run.until(lambda: len(states(tmp_path / "killed")) >= 2), run.story
    os.kill(run.trial_pids()[0], signal.SIGKILL)
    assert run.wait() == 0, run.story
    run.check_nothing_is_left()
    whole = Run(tmp_path, "sweep", grid, "--results", "whole", "--set", LONG)
    assert whole.wait() == 0, whole.story
    board, epochs = learned(tmp_path / "killed")
    expected_board, expected_epochs = learned(tmp_path / "whole")
    assert sorted(board["num_restarts"]) == [0, 1]
    assert "started again" in run.story
    assert "Traceback" not in run.story
    pd.testing.assert_frame_equal(epochs, expected_epochs, check_exact=True)
    pd.testing.assert_frame_equal(
        board.drop(columns="num_restarts"), expected_board.drop(columns="num_restarts")
    )


def test_a_trial_that_always_dies_is_tried_three_times_and_the_sweep_goes_on(
    tmp_path: Path,
) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3]}\n")
    run = Run(tmp_path, "sweep", grid, "--results", "r", "--set", "trial.epochs=100000", **OFTEN)
    killed: set[int] = set()
    while run.process.poll() is None:
        for pid in set(run.trial_pids()) - killed:
            killed.add(pid)
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    assert run.wait() == 1, run.story
    (row,) = board_of(tmp_path / "r").to_dict("records")
    assert (row["status"], row["error_kind"], row["num_restarts"]) == ("failed", "ProcessDied", 2)
    assert "1 failed: ProcessDied: " in run.story
    assert "Traceback" not in run.story


def test_a_killed_worker_of_two_costs_one_restart(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3]}\nresources: {workers: 2}\n")
    run = Run(tmp_path, "sweep", grid, "--results", "r", "--set", "trial.epochs=40")
    workers: list[int] = []
    assert run.until(lambda: workers.extend(run.pids_named(b"RayTrainWorker")) or workers)
    time.sleep(3)
    os.kill(workers[0], signal.SIGKILL)
    assert run.wait(150) == 0, run.story
    (row,) = board_of(tmp_path / "r").to_dict("records")
    assert (row["status"], row["num_restarts"], row["num_epochs"]) == ("complete", 1, 40)
    run.check_nothing_is_left()


@pytest.mark.parametrize(
    "sent", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)]
)
def test_no_process_and_no_shared_memory_is_left_by_an_interrupt(
    tmp_path: Path, sent: tuple[signal.Signals, ...]
) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n")
    run = Run(tmp_path, "sweep", grid, "--results", "r", "--set", "trial.epochs=100000", **OFTEN)
    assert run.until(lambda: states(tmp_path / "r")), run.story
    for one in sent:
        run.signal(one)
        time.sleep(0.3)
    assert run.wait(20) == 130, run.story
    assert "Traceback" not in run.story
    run.check_nothing_is_left(20)
    assert shared_memory() <= run.shared_memory
    assert not (tmp_path / "r" / "sweep.lock").exists()
