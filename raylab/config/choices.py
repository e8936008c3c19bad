"""From a word that is not allowed and the words that are, to a hint."""

import difflib
from collections.abc import Iterable


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """`; did you mean augment?`, or nothing when no allowed word is near."""
    words = {word.lower(): word for word in allowed}
    near = difflib.get_close_matches(str(given).lower(), words, n=1, cutoff=0.7)
    return f"; did you mean {words[near[0]]}?" if near else ""
