"""Results directories → their leaderboard as a DataFrame; neither torch nor Ray is loaded."""

import pandas as pd

from raylab.analysis.board import assess, with_family
from raylab.results.leaderboard import ranked, read, sweep_folders


def leaderboard(*results: str, by: str = "val_accuracy") -> pd.DataFrame:
    """The trials of one or several sweeps, ranked: a row each, the columns of leaderboard.parquet.

    Behind them stand the measures of the trial's family and `tied` (yes: may be the best). Can be
    read while a sweep runs. Raises Refused where one of them holds no results.
    """
    places = [str(place) for place in results]
    frame = ranked(read(places), by)
    compared = assess(frame, sweep_folders(places), by)
    return with_family(frame, compared.families)
