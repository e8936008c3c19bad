"""The board that `sweep` and `leaderboard` show: ranked trials or families, marked, with notes."""

from collections.abc import Mapping, Sequence

import pandas as pd

from raylab.analysis.comparison import OF_BEST_EPOCH, Comparison, compare
from raylab.analysis.families import by_family
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import differing_columns, ranked, read, sweep_folders
from raylab.results.table import Format, render, render_families

# What trial rows carry of their family.
OF_FAMILY = ("num_seeds", "family_mean", "family_std", "family_low", "family_high")
MARKS = ("tied", "corrected")
# Nobody reads more from a terminal, and a million rows would take minutes to lay out.
MAX_TABLE_ROWS = 100


def show(
    locations: Sequence[str],
    format: Format = "table",
    top: int | None = None,
    metric: str = "val_accuracy",
    families: bool | None = None,
    width: int | None = None,
) -> str:
    """The board of these results as text, no newline at its end.

    Sweeps over different images are no rivals: for eyes, each data fingerprint has a board of its
    own; for programs, one best that the others are compared with.

    `top`: only so many rows; None = all, of a table for eyes the first MAX_TABLE_ROWS.
    `families`: rows are families or trials; by default families for eyes where one has several
    trials, and trials for programs (csv, json), each with what is known of its family. Refused
    if one of the locations holds no results, or the metric is no numeric column.
    """
    if top is None and format == "table":
        top = MAX_TABLE_ROWS
    trials, folders = read(locations), sweep_folders(locations)
    if format in ("csv", "json") or trials["data_fingerprint"].nunique() < 2:
        return _one_board(trials, folders, format, top, metric, families, width)
    boards = []
    for fingerprint, alike in trials.groupby("data_fingerprint", sort=False):
        names = ", ".join(alike["sweep"].unique())
        board = _one_board(alike, folders, format, top, metric, families, width)
        gap = "\n\n" if format == "markdown" else "\n"  # else the table would be a paragraph's
        boards.append(f"data {fingerprint} ({names}){gap}{board}")
    return "\n\n".join(boards)


def _one_board(
    trials: pd.DataFrame,
    folders: Mapping[str, ResultsDirectory],
    format: Format,
    top: int | None,
    metric: str,
    families: bool | None,
    width: int | None,
) -> str:
    """The board of trials over one data set."""
    frame = ranked(trials, metric)
    compared = assess(frame, folders, metric)
    has_several = bool((compared.families["num_trials"] > 1).any())
    if families is None:
        families = has_several and format in ("table", "markdown")
    if families:
        differing = differing_columns(compared.families)
        return render_families(
            compared.families, differing, format, top, metric, compared.notes, width
        )
    if has_several and format in ("table", "markdown"):
        return render(frame, format, top, metric, width)  # the marks are the families', not its own
    marked = with_family(frame, compared.families)
    return render(marked, format, top, metric, width, compared.notes)


def assess(
    frame: pd.DataFrame, folders: Mapping[str, ResultsDirectory], metric: str = "val_accuracy"
) -> Comparison:
    """The families of a frame of trials, ranked by the metric and compared with the best of those
    on the same data: other images or labels are no rivals.

    Ties and the winner's correction are of accuracies: another metric gets neither.
    """
    families = by_family(frame, metric)
    if metric != "val_accuracy":
        note = f"ranked by {metric}: ties are told for val_accuracy only"
        return Comparison(families.assign(tied=None, corrected=None), (OF_BEST_EPOCH, note))
    data_of = frame.drop_duplicates("family_id").set_index("family_id")["data_fingerprint"]
    alike = families.groupby(families["family_id"].map(data_of), sort=False, dropna=False)
    parts = [compare(part, frame, folders) for _, part in alike]
    together = pd.concat([part.families for part in parts]).sort_index()
    return Comparison(
        together,
        tuple(note for part in parts for note in part.notes),
        frozenset().union(*(part.unread for part in parts)),
        parts[0].num_rivals,
        parts[0].is_cut,
    )


def with_family(frame: pd.DataFrame, families: pd.DataFrame) -> pd.DataFrame:
    """Trial rows with the measures and marks of their family behind their own columns."""
    known = families.set_index("family_id")[[*OF_FAMILY, *MARKS]]
    return frame.join(known, on="family_id")
