"""Disks that are full or read-only, and two commands at once in one results directory: one clear
error, nothing torn, all of it resumable.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import Run, assert_learned_the_same, write_grid

from raylab.after.final import FinalOptions, run_final
from raylab.config.grid import read_grid
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory
from raylab.sweep.runner import Options, run_sweep

pytestmark = pytest.mark.slow
GRID = "axes: {lr: [1.0e-2, 3.0e-3, 1.0e-3, 3.0e-4]}\nseeds: [0, 1]\n"


@pytest.fixture(scope="module")
def place(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the grid, its prepared images, and `whole`: a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("storage")
    write_grid(place, GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(place / "cache"))
        sweep_into(place, place / "whole")
        yield place


def sweep_into(place: Path, results: Path) -> None:
    outcomes = run_sweep(read_grid(place / "grid.yaml"), Options(str(results), quiet=True))
    assert outcomes.exit_code == 0


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A filesystem of its own of that size."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root may mount a small disk")
    place.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def assert_told_once(run: Run) -> None:
    assert run.wait() == 1, run.story
    told = [line for line in run.story.splitlines() if "cannot be written: " in line]
    assert sum("WARNING" not in line for line in told) == 1, run.story
    assert len(told) <= 2, run.story  # a state is warned of once, and ends nothing
    assert "No space left" in run.story
    assert "Traceback" not in run.story
    run.check_nothing_is_left()


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@pytest.mark.parametrize(
    ("size", "checkpoint_every_s"),
    [
        ("56k", "60"),  # images.parquet and the empty tables fit, the first predictions do not
        ("300k", "0"),  # neither a training state nor weights fit
    ],
    ids=["record", "checkpoint"],
)
def test_a_full_disk_is_one_error_and_with_room_the_same_command_goes_on(
    place: Path, tmp_path: Path, size: str, checkpoint_every_s: str
) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        often = {"RAYLAB_CHECKPOINT_EVERY_S": checkpoint_every_s}
        assert_told_once(Run(place, "sweep", "grid.yaml", "--results", str(disk / "r"), **often))
        assert not list(disk.rglob("*.part"))
        assert len(ResultsDirectory(disk / "r").records()) < 8  # those that are there are whole
        remount(disk, "size=64m")
        sweep_into(place, disk / "r")
        assert_learned_the_same(disk / "r", place / "whole")


def test_a_full_disk_for_prepared_images_is_one_error(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", "8k") as disk:
        monkeypatch.setenv("RAYLAB_CACHE", str(disk))
        run = Run(
            place, "sweep", "grid.yaml", "--results", str(tmp_path / "r"), RAYLAB_CACHE=str(disk)
        )
        assert_told_once(run)
        remount(disk, "size=64m")
        sweep_into(place, tmp_path / "r")
        assert_learned_the_same(tmp_path / "r", place / "whole")


def test_a_read_only_results_directory_is_refused_before_anything_starts(
    place: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        with pytest.raises(Refused, match="Read-only file system") as refusal:
            sweep_into(place, disk / "r")
        assert str(refusal.value).endswith("no trial was started.")


def test_while_a_sweep_runs_a_second_one_and_final_are_refused(place: Path, tmp_path: Path) -> None:
    first = Run(place, "sweep", "grid.yaml", "--results", str(tmp_path / "r"))
    assert first.until((tmp_path / "r" / "records").is_dir), first.story
    holder = f"process {first.process.pid} on "
    with pytest.raises(Refused, match=holder):
        sweep_into(place, tmp_path / "r")
    with pytest.raises(Refused, match=holder):
        run_final(FinalOptions(str(tmp_path / "r"), quiet=True))
    assert first.wait() == 0, first.story
    assert_learned_the_same(tmp_path / "r", place / "whole")
