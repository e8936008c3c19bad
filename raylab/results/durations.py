"""Seconds as people say them."""

from collections.abc import Mapping


def clock(seconds: float) -> str:
    """`3:07`, or `1:03:07` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def about(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h`: two digits, as much as an estimate is worth."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 99.5 * 3600 else f"{seconds / 86400:.1f} days"


def between(spread: Mapping[str, float]) -> str:
    """`12 min [10 min to 15 min]`."""
    return f"{about(spread['mid'])} [{about(spread['low'])} to {about(spread['high'])}]"
