"""The results directory of a sweep: the one owner of every file name in it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from raylab.config.files import DESCRIPTION
from raylab.config.identity import digest
from raylab.results.journal import Journal
from raylab.results.live import Snapshot
from raylab.results.record import EPOCH_SCHEMA, LEADERBOARD_SCHEMA, Record
from raylab.results.segment import EPOCH_ROWS, epoch_rows
from raylab.storage import Folder

LEADERBOARD = "leaderboard.parquet"
EPOCHS = "epochs.parquet"
IMAGES = "images.parquet"
GRID = "grid.yaml"
ENVIRONMENT = "environment.json"
FINAL = "final.json"
DRAWS = "draws.json"
SUSPECTS = "suspects.parquet"
TEACHER = "teacher.parquet"
NEXT_GRID = "next.yaml"
REPORT, COMPARISON = "report.html", "comparison.html"
LOCK = "sweep.lock"
FETCHED = "fetched.json"
SUBMITTED = "submitted.json"
LIVE = "live.json"

# Gathering rewrites two whole tables. Done whenever they would grow by this fraction, a record is
# rewritten 1 + 1 / GATHER_GROWTH times on average, however many there are …
GATHER_GROWTH = 0.25
# … and where trials end slowly, it is done more often, in this fraction of the time.
GATHER_TIME_FRAC = 0.01

_LAST_SEGMENT = b"raylab.last_segment"
_IN_ORDER_OF_START = [("started_at", "ascending"), ("trial_id", "ascending")]


class ResultsDirectory:
    """What a sweep leaves, at a local path or a URI. One process writes, any number read.

    The journal keeps a record the moment its trial ends; leaderboard.parquet and epochs.parquet are
    gathered from it, each replaced in one step, and say in their metadata how far they reach.
    """

    def __init__(
        self, location: str | Path | Folder, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self._clock = clock
        self._journal = Journal(self.folder)
        self._records: dict[str, Record] | None = None
        self._is_gathered = False  # a killed sweep may not have come to it
        self._num_gathered = self._num_late = 0
        self._next_gather_s = float("inf")

    @property
    def location(self) -> str:
        """The local path or the URI."""
        return self.folder.location

    # Records and what is gathered from them

    def add(self, record: Record) -> None:
        """Keeps the record for good, in place of an earlier one of the same trial, and gathers."""
        self._journal.append(record)
        self._records = None
        self._is_gathered = False
        self._num_late += 1
        is_much = self._num_late >= self._num_gathered * GATHER_GROWTH
        if is_much or self._clock() >= self._next_gather_s:
            self.flush()

    def flush(self) -> None:
        """Gathers now what `add` put off; a directory without records gets empty tables."""
        if self._is_gathered and self.folder.exists(LEADERBOARD):
            return
        started_s = self._clock()
        self._num_gathered, self._num_late = self._gather(), 0
        pa.default_memory_pool().release_unused()  # else every gathering leaves some behind
        self._is_gathered = True
        ended_s = self._clock()
        self._next_gather_s = ended_s + (ended_s - started_s) * (1 / GATHER_TIME_FRAC - 1)

    def _gather(self) -> int:
        """Both tables written anew; the number of trials in them."""
        self.folder.write_table(EPOCHS, self.epochs())
        board = self.leaderboard().sort_by(_IN_ORDER_OF_START)
        self.folder.write_table(LEADERBOARD, board)
        return int(board.num_rows)

    def records(self) -> tuple[Record, ...]:
        """Every record that is there; a damaged one is passed over with a warning."""
        return tuple(self._known().values())

    def each_record(self) -> Iterator[Record]:
        """The same in no order and without holding them: all of 100,000 trials fill gigabytes."""
        return self._journal.each()

    def finished_ids(self, *, with_failed: bool = True) -> frozenset[str]:
        """The trials that need not run again; without failed ones, those are to be retried."""
        return frozenset(
            trial_id
            for trial_id, record in self._known().items()
            if with_failed or record.status != "failed"
        )

    def leaderboard(self) -> pa.Table:
        """One row per trial, also of those that were not gathered yet."""
        return self._merged(LEADERBOARD, LEADERBOARD_SCHEMA, LEADERBOARD_SCHEMA.names)

    def epochs(self) -> pa.Table:
        """One row per trial and epoch, also of those that were not gathered yet."""
        return self._merged(EPOCHS, EPOCH_SCHEMA, ["trial_id", EPOCH_ROWS])

    # One file per trial

    def write_predictions(
        self,
        trial_id: str,
        image_ids: Sequence[str],
        labels: Sequence[str],
        probs: np.ndarray[Any, Any],
        classes: Sequence[str],
    ) -> None:
        """Validation images in rows; probs: float (N, K), 0..1, columns in the order of classes."""
        columns: dict[str, Any] = {"image_id": list(image_ids), "label": list(labels)}
        for k, name in enumerate(classes):
            columns[f"p_{name}"] = np.ascontiguousarray(probs[:, k], dtype=np.float32)
        self.folder.write_table(f"predictions/{trial_id}.parquet", pa.table(columns))

    def predictions(self, trial_id: str) -> pa.Table:
        """image_id, label and p_<class> of the trial's best epoch."""
        return self.folder.read_table(f"predictions/{trial_id}.parquet")

    def checkpoint(self, trial_id: str) -> Folder:
        """The folder of the trial's weights and all that predicting with them needs."""
        return self.folder.child(f"checkpoints/{trial_id}")

    def checkpoint_ids(self) -> frozenset[str]:
        """The trials of which a whole checkpoint is kept: the description is written last."""
        names = (name.split("/") for name in self.folder.names("checkpoints/"))
        return frozenset(parts[1] for parts in names if parts[2:] == [DESCRIPTION])

    def delete_checkpoint(self, trial_id: str) -> None:
        """Removes the trial's checkpoint; its record and its predictions stay."""
        self.folder.delete(f"checkpoints/{trial_id}")

    def write_state(self, trial_id: str, content: bytes | memoryview) -> None:
        """What the trial goes on from, should it not come to its end, in place of what it was."""
        self.folder.write_bytes(f"states/{trial_id}.pt", content)

    def state(self, trial_id: str) -> bytes | None:
        """What `write_state` kept; None where the trial begins anew."""
        try:
            return self.folder.read_bytes(f"states/{trial_id}.pt")
        except FileNotFoundError:
            return None

    def state_ids(self) -> frozenset[str]:
        """The trials that can go on."""
        names = self.folder.names("states/")
        return frozenset(name.removeprefix("states/").removesuffix(".pt") for name in names)

    def delete_state(self, trial_id: str) -> None:
        """The trial has ended, or is to begin anew."""
        self.folder.delete(f"states/{trial_id}.pt")

    def delete_unfinished_states(self) -> None:
        """Removes what killed processes left half written of states."""
        self.folder.delete_unfinished("states")

    def write_log(self, trial_id: str, text: str) -> str:
        """Keeps what a failed trial had to say; the path or URI where it can be read."""
        self.folder.write_bytes(f"logs/{trial_id}.log", text.encode())
        return self.log_path(trial_id)

    def log_path(self, trial_id: str) -> str:
        """Where the log of a failed trial is."""
        return self.folder.path_of(f"logs/{trial_id}.log")

    # One file per split, per sweep

    def write_draws(self, assignments: Sequence[Mapping[str, Any]]) -> None:
        """What a model-based search has drawn so far, so that a resume draws it again."""
        self.folder.write_json(DRAWS, [dict(assignment) for assignment in assignments])

    def draws(self) -> list[dict[str, Any]]:
        """What an earlier run's search drew; empty if there was none."""
        try:
            return list(self.folder.read_json(DRAWS))
        except FileNotFoundError:
            return []

    def write_split(self, split_fingerprint: str, table: pa.Table) -> None:
        """image_id and split (train, val, test) of every image that takes part."""
        self.folder.write_table(f"splits/{split_fingerprint}.parquet", table)

    def split(self, split_fingerprint: str) -> pa.Table:
        """image_id and split of the images."""
        return self.folder.read_table(f"splits/{split_fingerprint}.parquet")

    def has_split(self, split_fingerprint: str) -> bool:
        """Whether that split was written already."""
        return self.folder.exists(f"splits/{split_fingerprint}.parquet")

    def write_images(self, table: pa.Table) -> None:
        """One row per image of the source, also of those that were left out."""
        self.folder.write_table(IMAGES, table)

    def images(self) -> pa.Table:
        """One row per image of the source."""
        return self.folder.read_table(IMAGES)

    def write_grid(self, grid: Mapping[str, Any]) -> None:
        """The resolved grid, as `sweep` reads it."""
        text = yaml.safe_dump(dict(grid), sort_keys=False, allow_unicode=True)
        self.folder.write_bytes(GRID, text.encode())

    def grid(self) -> dict[str, Any]:
        """The resolved grid; FileNotFoundError if none was written yet."""
        return dict(yaml.safe_load(self.folder.read_bytes(GRID)))

    def metric(self) -> str:
        """What ranks the trials, as the grid says; val_accuracy where none was written."""
        try:
            return str(self.grid().get("metric", "val_accuracy"))
        except FileNotFoundError:
            return "val_accuracy"

    def write_environment(self, environment: Mapping[str, Any]) -> str:
        """Keeps versions, hardware and git state as the latest, and under the id it returns."""
        environment_id = digest(dict(environment))
        self.folder.write_json(f"environments/{environment_id}.json", dict(environment))
        self.folder.write_json(ENVIRONMENT, dict(environment))
        return environment_id

    def environment(self, environment_id: str | None = None) -> dict[str, Any]:
        """The environment that a record names, or the latest; FileNotFoundError if unknown."""
        known = f"environments/{environment_id}.json"
        return dict(self.folder.read_json(known if environment_id else ENVIRONMENT))

    # What `final`, `rerun` and `extend` leave

    def write_final(self, report: Mapping[str, Any]) -> None:
        """What the test split said, and how often it was asked."""
        self.folder.write_json(FINAL, dict(report))

    def final(self) -> dict[str, Any] | None:
        """What `write_final` kept; None while the test split was never scored."""
        try:
            return dict(self.folder.read_json(FINAL))
        except FileNotFoundError:
            return None

    def final_model(self, trial_id: str) -> Folder:
        """The folder of a model retrained on train and val."""
        return self.folder.child(f"final/{trial_id}")

    def rerun(self, trial_id: str) -> "ResultsDirectory":
        """The results directory of the trial's repetition, apart from its own files."""
        return ResultsDirectory(self.folder.child(f"reruns/{trial_id}"))

    def extended(self, trial_id: str) -> "ResultsDirectory":
        """The results directory of the trial and of what more epochs made of it."""
        return ResultsDirectory(self.folder.child(f"extended/{trial_id}"))

    def write_teacher(self, table: pa.Table) -> str:
        """What `distill` says of the images that trained; its path or URI."""
        self.folder.write_table(TEACHER, table)
        return self.path_of(TEACHER)

    # What `diagnose` leaves

    def write_suspects(self, table: pa.Table) -> None:
        """One row per image whose label the models dispute, the most suspicious first."""
        self.folder.write_table(SUSPECTS, table)

    def suspects(self) -> pa.Table:
        """What `write_suspects` kept; FileNotFoundError before the first diagnosis."""
        return self.folder.read_table(SUSPECTS)

    def write_next_grid(self, text: str) -> None:
        """The grid file to run next."""
        self.folder.write_bytes(NEXT_GRID, text.encode())

    def delete_next_grid(self) -> None:
        """There is none to run next; missing is fine."""
        self.folder.delete(NEXT_GRID)

    # What `report` leaves

    def write_report(self, content: bytes, *, of_several: bool) -> str:
        """Keeps the report on these results, or on these and others; its path or URI."""
        name = COMPARISON if of_several else REPORT
        self.folder.write_bytes(name, content)
        return self.path_of(name)

    # What a running sweep shows

    def write_live(self, snapshot: Snapshot) -> None:
        """The sweep as it stands, in place of what it was."""
        self.folder.write_json(LIVE, snapshot.to_json())

    def live(self) -> Snapshot | None:
        """The latest of `write_live`; None where there is none, or it cannot be read."""
        try:
            return Snapshot.from_json(self.folder.read_json(LIVE))
        except (FileNotFoundError, ValueError):
            return None

    # What a copy of another place knows of it

    def forget_replaced(self, arrived: frozenset[str]) -> None:
        """After the files of these names were copied here: what they have replaced goes."""
        self._journal.forget_replaced(arrived)
        self._records = None

    def write_fetched(self, origin: Mapping[str, Any]) -> None:
        """Where these results were copied from."""
        self.folder.write_json(FETCHED, dict(origin))

    def fetched(self) -> dict[str, Any] | None:
        """What `write_fetched` kept; None for results that were made here."""
        try:
            return dict(self.folder.read_json(FETCHED))
        except FileNotFoundError:
            return None

    def write_submitted(self, there: str) -> None:
        """Where a cluster keeps what will be copied here."""
        self.folder.write_json(SUBMITTED, {"to": there})

    def submitted(self) -> str | None:
        """What `write_submitted` kept; None where nothing was submitted."""
        try:
            return str(self.folder.read_json(SUBMITTED)["to"])
        except FileNotFoundError:
            return None

    def scratch(self, name: str) -> Folder:
        """A folder for what Ray keeps while it runs; whoever asks for it deletes it."""
        return self.folder.child(f"scratch/{name}")

    def delete_scratch(self) -> None:
        """Removes every scratch folder."""
        self.folder.delete("scratch")

    def path_of(self, name: str) -> str:
        """A file of this directory as a user can open it."""
        return self.folder.path_of(name)

    def _known(self) -> dict[str, Record]:
        """All records, read once until one is added: a writer does not hold all that it wrote."""
        if self._records is None:
            self._records = self._journal.records()
        return self._records

    def _merged(self, name: str, schema: pa.Schema, columns: list[str]) -> pa.Table:
        """What is gathered, less what newer records replace, and those records' own rows."""
        try:
            gathered = self.folder.read_table(name)
        except FileNotFoundError:
            gathered = schema.empty_table()
        last = int((gathered.schema.metadata or {}).get(_LAST_SEGMENT, 0))
        late, last = self._journal.newest(last, columns)
        if late.num_rows:
            is_late = pc.is_in(gathered["trial_id"], late["trial_id"].combine_chunks())
            gathered = gathered.filter(pc.invert(is_late))
        rows = epoch_rows(late) if EPOCH_ROWS in columns else late
        tables = [schema.empty_table(), gathered, rows]  # the first one orders the columns
        merged = pa.concat_tables(tables, promote_options="permissive")
        return merged.replace_schema_metadata({_LAST_SEGMENT: str(last)})
