"""From many records to one table from which columns, epochs or the records come back fast."""

import json
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from raylab.results.record import EPOCH_SCHEMA, LEADERBOARD_SCHEMA, Record, leaderboard_table

EPOCH_ROWS, RECORD = "epoch_rows", "record"
_EPOCH = pa.struct([field for field in EPOCH_SCHEMA if field.name != "trial_id"])
SEGMENT_SCHEMA = LEADERBOARD_SCHEMA.append(pa.field(EPOCH_ROWS, pa.list_(_EPOCH))).append(
    pa.field(RECORD, pa.string())
)
"""A leaderboard row; beside it the trial's epochs, and all of the record as JSON."""


def segment_table(records: Iterable[Record], columns: list[str] | None = None) -> pa.Table:
    """One row per record with these columns of SEGMENT_SCHEMA, or all."""
    ordered = list(records)
    wanted = SEGMENT_SCHEMA.names if columns is None else columns
    table = leaderboard_table(ordered)
    if EPOCH_ROWS in wanted:
        by_id = {record.trial_id: record.epochs for record in ordered}
        epochs = [by_id[trial_id] for trial_id in table["trial_id"].to_pylist()]
        table = table.append_column(EPOCH_ROWS, pa.array(epochs, pa.list_(_EPOCH)))
    if RECORD in wanted:
        texts = {record.trial_id: record_text(record) for record in ordered}
        rows = [texts[trial_id] for trial_id in table["trial_id"].to_pylist()]
        table = table.append_column(RECORD, pa.array(rows, pa.string()))
    return table.select(wanted)


def record_text(record: Record) -> str:
    """All of the record as JSON on one line; NaN and infinity are refused."""
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)


def records_of(table: pa.Table) -> list[Record]:
    """The records of a segment, from its column RECORD."""
    # Three times as fast as json.loads, which matters for a hundred thousand records.
    rows = from_json(f"[{','.join(table[RECORD].to_pylist())}]")
    return [Record.from_json(row) for row in rows]


def epoch_rows(table: pa.Table) -> pa.Table:
    """One row per trial and epoch, from the columns `trial_id` and EPOCH_ROWS of a segment."""
    lists = table[EPOCH_ROWS].combine_chunks()
    trial_ids = table["trial_id"].combine_chunks().take(pc.list_parent_indices(lists))
    rows = lists.flatten()
    columns = {"trial_id": trial_ids}
    columns.update((field.name, rows.field(field.name)) for field in rows.type)
    return pa.table(columns)
