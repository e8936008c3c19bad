"""Sweeps as real processes that a test can kill, and what must be left of them: nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).parents[1]
TINY = """
name: tiny
data: "toy:num=140,wrong=0"
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32, amp: none,
        split: {train: 0.6, val: 0.3}}
"""
MARK = "RAYLAB_TEST_RUN"


class Run:
    """One `raylab …` in a process of its own; all that it starts carries its mark."""

    def __init__(self, place: Path, *arguments: str, **settings: str) -> None:
        self.mark = uuid4().hex
        self.stdout, self.stderr = place / f"{self.mark}.out", place / f"{self.mark}.err"
        environment = {"RAYLAB_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
        with self.stdout.open("w") as out, self.stderr.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raylab", *arguments],
                cwd=place,
                env={**os.environ, **environment, MARK: self.mark, **settings},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def story(self) -> str:
        return self.stderr.read_text()

    def wait(self, timeout_s: float = 120) -> int:
        return self.process.wait(timeout_s)

    def until(self, is_so: Callable[[], object], timeout_s: float = 120) -> bool:
        """False if the run ended before."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.story
            time.sleep(0.01)
        return True

    def trial_pids(self) -> list[int]:
        """Of the processes in which trials run."""
        return [pid for pid in self.pids() if b"ImplicitFunc" in command_of(pid)]

    def pids(self) -> list[int]:
        """Every living process with the mark, this run's own included."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in living() if wanted in environment_of(pid)]

    def check_nothing_is_left(self, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while left := self.pids():
            assert time.monotonic() < deadline, [command_of(pid)[:60] for pid in left]
            time.sleep(0.1)


def living() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def environment_of(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/environ"))  # empty for a zombie


def command_of(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_grid(place: Path, text: str, name: str = "grid") -> str:
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(TINY + text, encoding="utf-8")
    return f"{name}.yaml"
