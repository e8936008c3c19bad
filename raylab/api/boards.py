"""Results directories → their leaderboard as a DataFrame; neither torch nor Ray is loaded."""

from pathlib import Path

import pandas as pd

from raylab.analysis.board import assess, with_family
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import ranked, read, sweep_folders


def leaderboard(*results: str | Path, by: str | None = None) -> pd.DataFrame:
    """The trials of one or several sweeps, ranked: a row each, the columns of leaderboard.parquet.

    by: the column that ranks; None = the metric of the first sweep. Behind them stand the measures
    of the trial's family and `tied` (yes: may be the best). Can be read while a sweep runs. Raises
    Refused where one of them holds no results.
    """
    places = [str(place) for place in results]
    if not places:
        text = "no results directory is given; name one or several"
        raise Refused([Problem("leaderboard", text)], "the call", "no leaderboard was shown")
    metric = by or ResultsDirectory(places[0]).metric()
    frame = ranked(read(places), metric)
    compared = assess(frame, sweep_folders(places), metric)
    return with_family(frame, compared.families)
