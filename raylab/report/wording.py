"""Numbers and configs as a reader wants them: percent, seconds, and only what differs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raylab.results.table import BLANK, value_text

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def percent(share: Any, digits: int = 1) -> str:
    """0.7589 → `75.9 %`."""
    return BLANK if pd.isna(share) else f"{100 * float(share):.{digits}f} %"


def interval(low: Any, high: Any, digits: int = 1) -> str:
    """`68.2–82.2 %`; nothing where it is not known."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"{100 * float(low):.{digits}f}–{100 * float(high):.{digits}f} %"


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 2 * MINUTE_S:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 2 * HOUR_S:
        return f"{round(seconds / MINUTE_S)} min"
    if whole < 2 * DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def count(num: int, noun: str) -> str:
    """`1 trial`, `1,200 trials`."""
    if num == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{num:,} {plural}"


def is_number(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers; True and False are none."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows, each by its columns' names."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def config_text(row: Mapping[str, Any], fields: Sequence[str], sweep: bool = False) -> str:
    """`augment light, lr 0.003`; the model where configs differ in nothing.

    Drawn numbers to four digits, which tell configs apart; the leaderboard has the others.
    """
    parts = [f"{name} {_short(row[name])}" for name in fields]
    if sweep:
        parts.insert(0, str(row["sweep"]))
    return ", ".join(parts) or f"model {value_text(row.get('model'))}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value_text(value)
