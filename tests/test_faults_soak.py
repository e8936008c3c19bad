"""Thousands of tiny trials in one sweep: memory and open files of driver and trials stay flat."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from faults import Run, board_of, write_grid

NUM_TRIALS = int(os.environ.get("RAYLAB_TEST_SOAK", "400"))
GROWTH = 1.05
DRIVER_GROWTH = 1.07
"""1.04 over 2,000 trials; a shorter sweep has still to fill the pools of Arrow and Ray."""


def resident_mb(pid: int) -> float:
    """Of the process alone: pages that it shares with others are Ray's object store."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return float("nan")
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


def num_files(pid: int) -> float:
    try:
        return float(len(os.listdir(f"/proc/{pid}/fd")))
    except OSError:
        return float("nan")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_and_open_files_stay_flat_over_thousands_of_trials(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, f"seeds: [{', '.join(map(str, range(NUM_TRIALS)))}]\nkeep: 0\n")
    tiny = ("--set", "trial.epochs=1", "--set", "trial.batch_size=128")
    run = Run(tmp_path, "sweep", grid, "--results", "r", *tiny)
    rows: list[tuple[int, float, float, float, float]] = []
    records = tmp_path / "r" / "predictions"
    while run.process.poll() is None:
        pids = run.trial_pids()
        done = len(list(records.glob("*.parquet"))) if records.is_dir() else 0
        if pids and done:
            driver = run.process.pid
            memory = resident_mb(driver), max(map(resident_mb, pids))
            rows.append((done, *memory, num_files(driver), max(map(num_files, pids))))
        time.sleep(0.5)
    assert run.wait() == 0, run.story
    assert (board_of(tmp_path / "r")["status"] == "complete").sum() == NUM_TRIALS
    table = np.array(rows)
    quarter = np.clip(table[:, 0] * 4 // (NUM_TRIALS + 1), 0, 3)
    second, last = (np.nanmedian(table[quarter == q, 1:], axis=0) for q in (1, 3))
    for name, row in (("second", second), ("last", last)):
        print(f"{name} quarter: driver {row[0]:.0f} MB, trial {row[1]:.0f} MB, files {row[2:]}")
    assert last[0] <= DRIVER_GROWTH * second[0]
    assert last[1] <= GROWTH * second[1]
    assert (last[2:] <= second[2:] + 3).all()
    run.check_nothing_is_left()
