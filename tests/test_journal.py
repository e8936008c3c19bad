"""Journal: whatever is killed between two steps, no record is lost; n records cost n writes."""

import contextlib
import itertools
import multiprocessing
import signal
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylab.config.trial import TrialConfig
from raylab.results import journal
from raylab.results.directory import ResultsDirectory
from raylab.results.journal import Journal
from raylab.results.record import Record, Status, epochs_table, record_from
from raylab.results.segment import epoch_rows, records_of, segment_table
from raylab.storage import Folder


def record(seed: int, status: Status = "complete", num_epochs: int = 2) -> Record:
    epochs = [
        {"epoch": epoch, "val_accuracy": 0.01 * epoch, "val_loss": None, "extra": "kept"}
        for epoch in range(1, num_epochs + 1)
    ]
    started_at = f"2026-01-01T00:{seed // 60 % 60:02d}:{seed % 60:02d}"
    config = TrialConfig(seed=seed, train_layers=("fc",))
    return record_from(
        config, "data", "split", epochs, status, num_val=100, started_at=started_at, git_sha=None
    )


def by_id(records: Iterable[Record]) -> dict[str, Record]:
    return {record.trial_id: record for record in records}


@pytest.fixture
def of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments so short that a test fills several."""
    monkeypatch.setattr(journal, "SEGMENT_RECORDS", 4)


def test_segment_gives_back_records_and_epochs() -> None:
    made = [record(seed, num_epochs=seed) for seed in range(5)]
    table = segment_table(made)
    assert records_of(table) == made
    epochs = epochs_table(made)
    assert epoch_rows(table).equals(epochs)
    assert epoch_rows(table.slice(2, 2)).num_rows == 5
    assert epoch_rows(table.slice(0, 0)).schema.equals(epochs.schema)


def test_records_are_the_same_from_small_files_and_from_segments(
    tmp_path: Path, of_four: None
) -> None:
    made = [record(seed) for seed in range(10)]
    kept = Journal(Folder(tmp_path))
    for each in made:
        kept.append(each)
    names = sorted(path.name for path in (tmp_path / "records").iterdir())
    small = sorted(f"{each.trial_id}.json" for each in made[8:])
    assert names == [*small, "segment-000001.parquet", "segment-000002.parquet"]
    assert Journal(Folder(tmp_path)).records() == by_id(made) == kept.records()


def test_the_newest_record_of_a_trial_counts(tmp_path: Path, of_four: None) -> None:
    results = ResultsDirectory(tmp_path)
    for seed in range(6):
        results.add(record(seed, "failed"))
    for seed in (4, 1, 2):  # of a small file, and of a segment twice
        results.add(record(seed))
    one_by_one = list(ResultsDirectory(tmp_path).each_record())
    assert len(one_by_one) == 6
    assert by_id(one_by_one) == Journal(Folder(tmp_path)).records() == by_id(results.each_record())
    board = {
        row["seed"]: row["status"] for row in ResultsDirectory(tmp_path).leaderboard().to_pylist()
    }
    assert board == {s: "complete" if s in (1, 2, 4) else "failed" for s in range(6)}
    assert ResultsDirectory(tmp_path).epochs().num_rows == 12
    finished = ResultsDirectory(tmp_path).finished_ids(with_failed=False)
    assert finished == {record(seed).trial_id for seed in (1, 2, 4)}


def test_records_that_go_by_one_by_one_are_not_held(tmp_path: Path, of_four: None) -> None:
    kept = Journal(Folder(tmp_path))
    for seed in range(60):
        kept.append(record(seed, num_epochs=50))

    def peak_bytes(read: Callable[[], object]) -> int:
        tracemalloc.start()
        read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    kept = Journal(Folder(tmp_path))
    assert 4 * peak_bytes(lambda: deque(kept.each(), maxlen=0)) < peak_bytes(kept.records)


class Killed(BaseException):
    """The process is gone."""


class Killing(Folder):
    """Dies when it is to write or delete for the n-th time."""

    def __init__(self, location: str | Path, step: int) -> None:
        super().__init__(location)
        self.steps = itertools.count(1)
        self.last_step = step

    def _step(self) -> None:
        if next(self.steps) >= self.last_step:
            raise Killed

    def write_bytes(self, name: str, data: "bytes | memoryview | pa.Buffer") -> None:
        self._step()
        super().write_bytes(name, data)

    def delete(self, name: str) -> None:
        self._step()
        super().delete(name)


def test_no_step_is_a_bad_moment_to_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_RECORDS", 2)
    story = [record(0, "failed"), record(1), record(2, "failed"), record(0), record(2)]
    step, is_killed = 0, True
    while is_killed:
        step += 1
        place = tmp_path / str(step)
        results, num_told = ResultsDirectory(Killing(place, step)), 0
        with contextlib.suppress(Killed):
            for each in story:
                results.add(each)
                num_told += 1
        is_killed = num_told < len(story)
        check_nothing_is_lost(place, story[:num_told])
        resumed = ResultsDirectory(place)
        for each in story[num_told:]:
            resumed.add(each)
        resumed.flush()
        check_nothing_is_lost(place, story)
        rows = pq.read_table(place / "leaderboard.parquet").to_pylist()
        assert {row["trial_id"]: row["status"] for row in rows} == statuses(story)
    assert step > 20


def check_nothing_is_lost(place: Path, told: list[Record]) -> None:
    """What `add` returned for is there, in its newest version or in the next one's."""
    found = statuses(ResultsDirectory(place).records())
    board = ResultsDirectory(place).leaderboard().to_pylist()
    assert {row["trial_id"]: row["status"] for row in board} == found
    assert len(board) == len(found)
    for trial_id, status in statuses(told).items():
        assert found[trial_id] in (status, "complete")
    epochs = ResultsDirectory(place).epochs().to_pylist()
    assert sorted(row["trial_id"] for row in epochs) == sorted([*found, *found])
    if (place / "leaderboard.parquet").exists():
        pq.read_table(place / "leaderboard.parquet")


def statuses(records: Iterable[Record]) -> dict[str, str]:
    return {record.trial_id: record.status for record in records}


def test_reader_sees_every_record_while_the_writer_makes_segments(
    tmp_path: Path, of_four: None
) -> None:
    num_added = 0

    def write() -> None:
        nonlocal num_added
        results = ResultsDirectory(tmp_path)
        for seed in range(50):
            results.add(record(seed))
            num_added = seed + 1

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        least = num_added
        assert ResultsDirectory(tmp_path).leaderboard().num_rows >= least
        assert len(ResultsDirectory(tmp_path).records()) >= least
    writer.join()
    assert num_added == 50


class Counting(Folder):
    """Counts the bytes that go through it."""

    num_written = num_read = 0

    def write_bytes(self, name: str, data: "bytes | memoryview | pa.Buffer") -> None:
        self.num_written += len(data)
        super().write_bytes(name, data)

    def read_bytes(self, name: str) -> bytes:
        data = super().read_bytes(name)
        self.num_read += len(data)
        return data

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        table = super().read_table(name, columns)
        self.num_read += Path(self.path_of(name)).stat().st_size
        return table


def bytes_per_record(place: Path, num: int) -> tuple[float, float]:
    """(written, read) by a process that does nothing else than add records, on a slow disk."""
    folder = Counting(place)
    results = ResultsDirectory(folder, clock=lambda: (folder.num_written + folder.num_read) / 1e6)
    for seed in range(num):
        results.add(record(seed))
    results.flush()
    return folder.num_written / num, folder.num_read / num


def test_a_record_costs_as_many_bytes_whether_it_is_the_hundredth_or_the_thousandth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_RECORDS", 50)
    few, many = (bytes_per_record(tmp_path / str(num), num) for num in (100, 1000))
    assert many[0] <= 1.5 * few[0]
    assert many[1] <= 1.5 * few[1]


@pytest.mark.slow
def test_a_record_costs_as_many_bytes_whether_it_is_the_hundredth_or_the_ten_thousandth(
    tmp_path: Path,
) -> None:
    written = [bytes_per_record(tmp_path / str(num), num)[0] for num in (100, 1000, 10_000)]
    assert written[2] <= 1.5 * written[1] <= 1.5**2 * written[0], written


def add_for_ever(place: str, told: Any) -> None:
    journal.SEGMENT_RECORDS = 20
    results = ResultsDirectory(place)
    for seed in range(10**6):
        results.add(record(seed))
        told.value = seed + 1


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_no_record(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for round_ in range(8):
        place = tmp_path / str(round_)
        told = context.Value("q", 0)
        writer = context.Process(target=add_for_ever, args=(str(place), told))
        writer.start()
        while told.value < 30:
            time.sleep(0.01)
        time.sleep(0.05 * round_)
        assert writer.pid is not None
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        found = ResultsDirectory(place)
        added = {record(seed).trial_id for seed in range(told.value)}
        assert added <= found.finished_ids()
        assert added <= set(found.leaderboard()["trial_id"].to_pylist())
        pq.read_table(place / "leaderboard.parquet")
