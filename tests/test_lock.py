"""One sweep at a time in a results directory, on a disk and behind a URI."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import ROOT
from pyarrow import fs

from raylab import storage
from raylab.errors import CannotFinish, Refused
from raylab.results.directory import LOCK, ResultsDirectory
from raylab.sweep import lock
from raylab.sweep.lock import held

HOLD = """
import sys, time
from raylab.results.directory import ResultsDirectory
from raylab.sweep.lock import held
with held(ResultsDirectory(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(place: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_it_and_a_killed_holder_is_in_nobodys_way(
    tmp_path: Path,
) -> None:
    process = holder(tmp_path)
    with pytest.raises(Refused, match=f"process {process.pid} on .* since 20"):
        held(ResultsDirectory(tmp_path)).__enter__()
    process.kill()
    process.wait()
    with held(ResultsDirectory(tmp_path)):
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written: Not a directory"):
        held(ResultsDirectory(tmp_path / "file" / "results")).__enter__()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsDirectory:
    """Stands in for s3://, as in test_storage."""
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def opened(location: str) -> tuple[fs.FileSystem, str]:
        return local, location.removeprefix("s3://")

    monkeypatch.setattr(storage, "_open", opened)
    monkeypatch.setattr(lock, "SETTLE_S", 0.01)
    return ResultsDirectory("s3://bucket/results")


def test_behind_a_uri_the_second_is_refused_until_the_first_is_silent_for_long(
    remote: ResultsDirectory,
) -> None:
    with held(remote):
        with pytest.raises(Refused, match=f"process {os.getpid()} on"):
            held(remote).__enter__()
        known = remote.folder.read_json(LOCK)
        remote.folder.write_json(LOCK, {**known, "beat": time.time() - lock.STALE_S - 1})
        with held(remote):
            pass
    assert not remote.folder.exists(LOCK)


def test_behind_a_uri_the_first_ends_once_another_took_it_for_dead_and_leaves_it_the_lock(
    remote: ResultsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with held(remote) as hold:
        time.sleep(0.1)
        hold.check()
        known = remote.folder.read_json(LOCK)
        other = {**known, "host": "other", "token": "another"}
        remote.folder.write_json(LOCK, other)
        deadline = time.monotonic() + 10
        while hold.taken_by is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(CannotFinish, match=r"on other since .* has taken the results over"):
            hold.check()
    assert remote.folder.read_json(LOCK) == other


def test_behind_a_uri_a_dead_process_of_this_machine_holds_nothing(
    remote: ResultsDirectory,
) -> None:
    with held(remote):
        known = remote.folder.read_json(LOCK)
    ended = subprocess.Popen(["true"])
    ended.wait()
    remote.folder.write_json(LOCK, {**known, "pid": ended.pid})
    with held(remote):
        assert remote.folder.read_json(LOCK)["pid"] == os.getpid()


def test_behind_a_uri_of_two_at_once_one_goes_on(
    remote: ResultsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_writes_too(seconds: float) -> None:
        known = remote.folder.read_json(LOCK)
        remote.folder.write_json(LOCK, {**known, "host": "other", "token": "another"})

    monkeypatch.setattr(lock.time, "sleep", other_writes_too)
    with pytest.raises(Refused, match="on other since"):
        held(remote).__enter__()
    assert remote.folder.read_json(LOCK)["token"] == "another"
