"""The colours of the report: each by its role, in the light and in the dark."""

PALETTE = {
    "ink": ("#1c1b19", "#ebe8e2"),
    "muted": ("#5c5f66", "#a3a7ae"),
    "rule": ("#e4e2dd", "#2f3238"),
    "paper": ("#fdfdfc", "#15171a"),
    "band": ("#f2f0eb", "#1e2125"),
    "accent": ("#1f5fa8", "#7cb7f5"),
    "tied": ("#5f92c9", "#4d7fb3"),
    "field": ("#a8480f", "#f0a269"),
    "rest": ("#8d929a", "#777d87"),
    "faint": ("#c6c9ce", "#41464e"),
    "none": ("#fcfdfe", "#16181c"),
    "some": ("#c9dcf0", "#1d3450"),
    "all": ("#7ba9d8", "#31659c"),
    "bad": ("#b3261e", "#ff9c94"),
    "bad-band": ("#fdeceb", "#33191a"),
}
"""Per role its colour on light and on dark paper. No colour stands for two roles: a chart is made
in the light, and the page replaces each colour by its counterpart."""
INK, MUTED, RULE, PAPER, BAND, ACCENT, TIED, FIELD, REST, FAINT = (
    light for light, _ in list(PALETTE.values())[:10]
)
STEPS = tuple(PALETTE[role][0] for role in ("none", "some", "all"))
"""The colours of a heat map, on each of which ink can be read."""
DARK = dict(PALETTE.values())
"""What each light colour is in the dark."""
WINNER = ("accent", "the winner")
TIED_KEY = ("tied", "may be the best as well")
"""What colours mean in most charts: a role and its text."""
