"""From a trial of finished results to its exact repetition, and how the two compare.

The repetition is a sweep of one trial, in a results directory of its own: reruns/<trial_id>.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raylab.after.alone import alone, only
from raylab.after.earlier import check_same_data, config_of, find_record, read_sweep
from raylab.errors import CannotFinish
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record
from raylab.results.repetition import Repetition, compare
from raylab.sweep.parents import lent, refuse_orphan
from raylab.sweep.runner import Options


@dataclass(frozen=True, slots=True)
class RerunOptions:
    """What `raylab rerun` was asked for."""

    results: str
    trial: str
    """The trial_id, or enough of its beginning."""
    data: str | None = None
    address: str | None = None
    quiet: bool = False


def run_rerun(options: RerunOptions) -> Repetition:
    """Repeat the trial and compare. Nothing that the sweep left is written over.

    Raises Refused where the trial cannot be repeated as it was, CannotFinish if it fails now.
    """
    results = ResultsDirectory(options.results)
    sweep = read_sweep(results, options.data)
    record = find_record(results, options.trial)
    config = config_of(record)
    refuse_orphan(results, record.trial_id, config, "nothing was trained")
    repeated = only(sweep, config)
    source = scan(sweep.data)
    check_same_data(source, [record], "the trial ran")
    place = results.rerun(record.trial_id)
    chosen = Options(place.location, options.address, fresh=True, quiet=options.quiet)
    with alone(repeated, source, chosen) as sweeping, lent(results, config, place):
        outcomes = sweeping.run()
    if outcomes.interrupted:
        raise KeyboardInterrupt
    (ran,) = outcomes.records
    if ran.status != "complete":
        raise CannotFinish(f"trial {record.trial_id} failed now: {ran.error_kind}: {ran.error}")
    now = find_record(place, ran.trial_id)
    return compare(
        record,
        now,
        (environment_of(results, record), place.environment()),
        (predictions_of(results, record), place.predictions(now.trial_id)),
        results.records(),
    )


def environment_of(results: ResultsDirectory, record: Record) -> dict[str, Any]:
    """What the trial ran in; empty where an earlier raylab did not keep it."""
    if record.environment_id is None:
        return {}
    try:
        return results.environment(record.environment_id)
    except FileNotFoundError:
        return {}


def predictions_of(results: ResultsDirectory, record: Record) -> pa.Table | None:
    """The trial's predictions; None where they were deleted."""
    try:
        return results.predictions(record.trial_id)
    except FileNotFoundError:
        return None
