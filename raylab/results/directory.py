"""The results directory of a sweep: the one owner of every file name in it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from raylab.results.record import Record, epochs_table, leaderboard_table
from raylab.storage import Folder

logger = logging.getLogger(__name__)

LEADERBOARD = "leaderboard.parquet"
EPOCHS = "epochs.parquet"
IMAGES = "images.parquet"
GRID = "grid.yaml"
ENVIRONMENT = "environment.json"
DRAWS = "draws.json"

# Gathering rewrites two whole tables; over many thousand trials it must not become the work.
GATHER_TIME_FRAC = 0.1


class ResultsDirectory:
    """What a sweep leaves, at a local path or a URI. One process writes, any number read.

    A record is a small file that is written the moment its trial ends; leaderboard.parquet and
    epochs.parquet are gathered from all records and replaced in one step.
    """

    def __init__(
        self, location: str | Path | Folder, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self._clock = clock
        self._records: dict[str, Record] | None = None
        self._ungathered = False
        self._next_gather_s = float("-inf")

    @property
    def location(self) -> str:
        """The local path or the URI."""
        return self.folder.location

    # Records and what is gathered from them

    def add(self, record: Record) -> None:
        """Keeps the record for good, in place of an earlier one of the same trial, and gathers."""
        known = self._known()
        self.folder.write_json(f"records/{record.trial_id}.json", record.to_json())
        known[record.trial_id] = record
        self._ungathered = True
        if self._clock() >= self._next_gather_s:
            self.flush()

    def flush(self) -> None:
        """Gathers now what `add` put off; a directory without records gets empty tables."""
        records = self._known().values()
        if not self._ungathered and self.folder.exists(LEADERBOARD):
            return
        started_s = self._clock()
        self.folder.write_table(EPOCHS, epochs_table(records))
        self.folder.write_table(LEADERBOARD, leaderboard_table(records))
        self._ungathered = False
        ended_s = self._clock()
        self._next_gather_s = ended_s + (ended_s - started_s) * (1 / GATHER_TIME_FRAC - 1)

    def records(self) -> tuple[Record, ...]:
        """Every record that is there; a damaged one is passed over with a warning."""
        return tuple(self._known().values())

    def finished_ids(self, *, with_failed: bool = True) -> frozenset[str]:
        """The trials that need not run again; without failed ones, those are to be retried."""
        return frozenset(
            trial_id
            for trial_id, record in self._known().items()
            if with_failed or record.status != "failed"
        )

    def leaderboard(self) -> pa.Table:
        """The gathered leaderboard and the records that a killed sweep did not come to gather."""
        try:
            gathered = self.folder.read_table(LEADERBOARD)
        except FileNotFoundError:
            return leaderboard_table(self.records())
        missing = self._record_ids() - set(gathered["trial_id"].to_pylist())
        late = leaderboard_table(self._read_records(missing))
        return pa.concat_tables([gathered, late], promote_options="permissive")

    def epochs(self) -> pa.Table:
        """One row per trial and epoch, also of records that were not gathered yet."""
        try:
            gathered = self.folder.read_table(EPOCHS)
        except FileNotFoundError:
            return epochs_table(self.records())
        missing = self._record_ids() - set(gathered["trial_id"].to_pylist())
        late = epochs_table(self._read_records(missing))
        return pa.concat_tables([gathered, late], promote_options="permissive")

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
        """The trials of which a checkpoint is kept."""
        return frozenset(name.split("/")[1] for name in self.folder.names("checkpoints/"))

    def delete_checkpoint(self, trial_id: str) -> None:
        """Removes the trial's checkpoint; its record and its predictions stay."""
        self.folder.delete(f"checkpoints/{trial_id}")

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

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Versions, hardware, git state."""
        self.folder.write_json(ENVIRONMENT, dict(environment))

    def environment(self) -> dict[str, Any]:
        """Versions, hardware, git state."""
        return dict(self.folder.read_json(ENVIRONMENT))

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
        """All records, read once: the writer of the directory is its only one."""
        if self._records is None:
            found = self._read_records(self._record_ids())
            self._records = {record.trial_id: record for record in found}
            self._ungathered = bool(found)  # a killed sweep may not have come to gather them
        return self._records

    def _record_ids(self) -> set[str]:
        names = self.folder.names("records/")
        return {Path(name).stem for name in names if name.endswith(".json")}

    def _read_records(self, trial_ids: set[str]) -> list[Record]:
        records = []
        for trial_id in sorted(trial_ids):
            name = f"records/{trial_id}.json"
            try:
                records.append(Record.from_json(self.folder.read_json(name)))
            except ValueError as error:
                path = self.folder.path_of(name)
                logger.warning("%s is damaged and passed over (%s)", path, error)
        return records
