"""From failed trials to their causes, each with an example."""

import pandas as pd

from raylab.report.blocks import Column, Section, Table
from raylab.report.material import Part
from raylab.report.wording import count
from raylab.results.record import without_numbers
from raylab.storage import without_secrets

MAX_CAUSES = 50
MAX_CHARS = 400


def causes(part: Part) -> pd.DataFrame:
    """One row per cause, the most frequent first: error_kind, cause (its first trial's words, alike
    but for their numbers), num, trial_id, sweep.
    """
    failed = part.trials[part.trials["status"] == "failed"]
    told = failed["error"].fillna("no cause was recorded").astype(str).map(without_secrets)
    first = told.str.split("\n").str[0].str.split(" (log: ", regex=False).str[0]
    kinds = failed["error_kind"].fillna("unknown")
    found = (
        failed.assign(error_kind=kinds, cause=first)
        .groupby([kinds, first.map(without_numbers)], sort=False)
        .agg(
            error_kind=("error_kind", "first"),
            cause=("cause", "first"),
            num=("trial_id", "size"),
            trial_id=("trial_id", "first"),
            sweep=("sweep", "first"),
        )
    )
    return found.sort_values("num", ascending=False, kind="stable", ignore_index=True)


def failures(part: Part) -> Section:
    """Only where trials failed."""
    found = causes(part)
    if found.empty:
        return Section("Failures", [])
    places = {sweep.name: sweep.results for sweep in part.sweeps}
    rows = [
        [
            str(row.error_kind),
            f"{row.num:,}",
            str(row.cause)[:MAX_CHARS],
            str(row.trial_id),
            without_secrets(places[str(row.sweep)].log_path(str(row.trial_id))),
        ]
        for row in found.head(MAX_CAUSES).itertuples()
    ]
    columns = [
        Column("kind"),
        Column("trials", True),
        Column("cause"),
        Column("for example"),
        Column("log"),
    ]
    num = int(found["num"].sum())
    lead = f"{count(num, 'trial')} failed, of {count(len(found), 'cause')}."
    return Section("Failures", [Table("Causes", columns, rows)], lead)
