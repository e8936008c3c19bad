"""The journal of a results directory: every record for good, at a cost per record that stays."""

import gc
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath

import pyarrow as pa

from raylab.results.record import Record
from raylab.results.segment import RECORD, record_text, records_of, segment_table
from raylab.storage import Folder

logger = logging.getLogger(__name__)

SEGMENT_RECORDS = 250
"""So many small files, and records in the driver's memory, become one segment."""
_NUM_THREADS = 16  # small files on an object store cost waiting, not work


class Journal:
    """Every record, first as a small file of its own, then in a segment of hundreds.

    `records/<trial_id>.json` appears the moment a trial ends. Hundreds of them are written once
    more as `records/segment-<number>.parquet`, and only then deleted. Files appear whole and are
    never renamed or appended to, as an object store wants it, and the process may be killed between
    any two of these steps: a small file is always as new as any segment, a later segment as an
    earlier one, and who reads the small files before he lists the segments misses no record.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._open: dict[str, Record] | None = None
        """What is in small files, for the one process that writes them."""

    def append(self, record: Record) -> None:
        """Keeps the record for good, in place of an earlier one of the same trial."""
        if self._open is None:
            self._open = self._read_small()
        self.folder.write_bytes(_small(record.trial_id), record_text(record).encode())
        self._open[record.trial_id] = record
        if len(self._open) >= SEGMENT_RECORDS:
            number = max(self._segments(), default=0) + 1
            self.folder.write_table(_segment(number), segment_table(self._open.values()))
            with ThreadPoolExecutor(_NUM_THREADS) as threads:
                list(threads.map(self.folder.delete, map(_small, self._open)))
            self._open = {}

    def forget_replaced(self, arrived: frozenset[str]) -> None:
        """After the files of another journal were copied over these: deletes the small files that
        it has put into its segments since they were copied before, and which would pass for newer.
        """
        left = set(self.folder.names("records/")) - arrived
        for segment in arrived.intersection(map(_segment, self._segments())):
            trial_ids = self.folder.read_table(segment, ["trial_id"])["trial_id"].to_pylist()
            for name in left.intersection(map(_small, trial_ids)):
                self.folder.delete(name)

    def records(self) -> dict[str, Record]:
        """Every trial's newest record; a damaged small file is passed over with a warning."""
        small = self._small_records()  # before the segments are listed
        found: dict[str, Record] = {}
        with _no_garbage():
            for number in self._segments():
                table = self.folder.read_table(_segment(number), [RECORD])
                found.update((record.trial_id, record) for record in records_of(table))
        return found | small

    def each(self) -> Iterator[Record]:
        """Every trial's newest record, with one segment in memory at a time; later ones first."""
        small = self._small_records()  # before the segments are listed
        yield from small.values()
        seen = set(small)
        for number in reversed(self._segments()):
            with _no_garbage():
                found = records_of(self.folder.read_table(_segment(number), [RECORD]))
            for record in found:
                if record.trial_id not in seen:
                    seen.add(record.trial_id)
                    yield record

    def newest(self, after: int, columns: list[str]) -> tuple[pa.Table, int]:
        """What is newer than segment `after`: these columns of SEGMENT_SCHEMA, one row per trial;
        and the number of the last segment.
        """
        small = self._small_records()  # before the segments are listed
        numbers = [number for number in self._segments() if number > after]
        tables = [self.folder.read_table(_segment(number), columns) for number in numbers]
        tables.append(segment_table(small.values(), columns))
        table = pa.concat_tables(tables, promote_options="permissive")
        return _last_of_each(table), max(numbers, default=after)

    def _small_records(self) -> dict[str, Record]:
        return self._read_small() if self._open is None else self._open

    def _read_small(self) -> dict[str, Record]:
        names = [name for name in self.folder.names("records/") if name.endswith(".json")]
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            found = threads.map(self._read_record, names)
            return {record.trial_id: record for record in found if record is not None}

    def _read_record(self, name: str) -> Record | None:
        try:
            return Record.from_json(self.folder.read_json(name))
        except FileNotFoundError:
            return None  # it went into a segment just now
        except ValueError as error:
            path = self.folder.path_of(name)
            logger.warning("%s is damaged and passed over (%s)", path, error)
            return None

    def _segments(self) -> list[int]:
        """The numbers of the segments, in their order."""
        names = self.folder.names("records/segment-")
        return sorted(int(PurePosixPath(name).stem.removeprefix("segment-")) for name in names)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Spares Python's search for garbage among millions of new objects: a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _small(trial_id: str) -> str:
    return f"records/{trial_id}.json"


def _segment(number: int) -> str:
    return f"records/segment-{number:06d}.parquet"


def _last_of_each(table: pa.Table) -> pa.Table:
    """The last row of every trial."""
    place = {trial_id: i for i, trial_id in enumerate(table["trial_id"].to_pylist())}
    return table if len(place) == table.num_rows else table.take(sorted(place.values()))
