"""Sweeps as real processes that a test can kill, and what must be left of them: nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import pandas as pd

ROOT = Path(__file__).parents[1]
TINY = """
name: tiny
data: "toy:num=140,wrong=0"
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32, amp: none,
        split: {train: 0.6, val: 0.3}}
"""
MARK = "RAYLAB_TEST_RUN"
# What may differ between two runs that learned the same.
OF_THE_RUN = ["seconds", "train_images_per_s", "started_at", "environment_id", "git_sha"]


class Run:
    """One `raylab …`, or one script, in a process of its own; all that it starts carries its mark.

    It leads a process group and session, as it would when started in a terminal. inside: a command
    that runs the command after it.
    """

    def __init__(
        self,
        place: Path,
        *arguments: str,
        script: str | None = None,
        inside: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.mark = uuid4().hex
        self.stdout, self.stderr = place / f"{self.mark}.out", place / f"{self.mark}.err"
        self.shared_memory = shared_memory()
        environment = {"RAYLAB_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
        program = ["-c", script] if script else ["-m", "raylab"]
        with self.stdout.open("w") as out, self.stderr.open("w") as err:
            self.process = subprocess.Popen(
                [*inside, sys.executable, *program, *arguments],
                cwd=place,
                env={**os.environ, **environment, MARK: self.mark, **settings},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def story(self) -> str:
        return self.stderr.read_text()

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def wait(self, timeout_s: float = 240) -> int:
        return self.process.wait(timeout_s)

    def until(self, is_so: Callable[[], object], timeout_s: float = 240) -> bool:
        """False if the run ended before."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if self.is_over:
                return False
            assert time.monotonic() < deadline, self.story
            time.sleep(0.01)
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def press_ctrl_c(self) -> None:
        """A terminal sends it to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def trial_pids(self) -> list[int]:
        """Of the processes in which trials run."""
        return self.pids_named(b"ImplicitFunc")

    def pids_named(self, name: bytes) -> list[int]:
        return [pid for pid in self.pids() if name in command_of(pid)]

    def pids(self) -> list[int]:
        """Every living process with the mark, this run's own included."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in living() if wanted in environment_of(pid)]

    def check_nothing_is_left(self, timeout_s: float = 30) -> None:
        """No process, and no shared memory that was not there before."""
        deadline = time.monotonic() + timeout_s
        while left := self.pids():
            assert time.monotonic() < deadline, [command_of(pid)[:60] for pid in left]
            time.sleep(0.1)
        assert not {name for name in shared_memory() - self.shared_memory if is_of_ray(name)}


def living() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def environment_of(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/environ"))  # empty for a zombie


def command_of(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline"))


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def is_of_ray(name: str) -> bool:
    """Other tests' multiprocessing keeps its semaphores there, too."""
    return not name.startswith(("sem.", "torch_"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_grid(place: Path, text: str, name: str = "grid") -> str:
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(TINY + text, encoding="utf-8")
    return f"{name}.yaml"


def states(results: Path) -> list[Path]:
    """From which trials go on that have begun and not ended."""
    return list((results / "states").glob("*.pt"))


def board_of(results: Path) -> pd.DataFrame:
    return pd.read_parquet(results / "leaderboard.parquet")


def learned(results: Path, *besides: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leaderboard and epochs without what belongs to the run, and without these columns."""
    tables = []
    for name, keys in (("leaderboard", ["trial_id"]), ("epochs", ["trial_id", "epoch"])):
        table = pd.read_parquet(results / f"{name}.parquet").sort_values(keys, ignore_index=True)
        tables.append(table.drop(columns=[c for c in (*OF_THE_RUN, *besides) if c in table]))
    return tables[0], tables[1]


def assert_learned_the_same(results: Path, whole: Path, *besides: str) -> None:
    """Both tables bit for bit, apart from times and from these columns."""
    for found, expected in zip(learned(results, *besides), learned(whole, *besides), strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
