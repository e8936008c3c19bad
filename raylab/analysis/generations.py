"""From the trials of a population to the generation of each: what a population calls progress."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from raylab.config.files import parent_of


def is_population(grid: Mapping[str, Any]) -> bool:
    """Whether the grid (as written) searches by `pbt`."""
    search = grid.get("search")
    return isinstance(search, Mapping) and "pbt" in search


def in_generations(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials with `generation 2` in place of what each began with: all of a generation learned
    for equally long, whatever their parents. The first one's stays as it is.
    """
    parents = {
        str(row.trial_id): parent_of(str(row.pretrained))
        for row in frame[["trial_id", "pretrained"]].itertuples()
    }
    known: dict[str, int] = {}
    for trial_id in parents:
        line: list[str] = []  # from the trial up to the first ancestor that is known
        at: str | None = trial_id
        while at is not None and at not in known:
            line.append(at)
            at = parents.get(at)
        above = known[at] if at is not None else 0
        known |= {name: above + k for k, name in enumerate(reversed(line), start=1)}
    named = [
        f"generation {known[trial_id]}" if parents[trial_id] else pretrained
        for trial_id, pretrained in zip(frame["trial_id"], frame["pretrained"], strict=True)
    ]
    return frame.assign(pretrained=named)
