"""Why does it stop here: what each lever of a one-at-a-time grid gains."""

import math
from collections.abc import Sequence

from raylab.analysis.evidence import SCORE, Evidence
from raylab.analysis.finding import Finding, signed, span
from raylab.analysis.levers import Gain, gains
from raylab.analysis.measures import judged_text


def lever_gains(evidence: Evidence) -> list[Gain]:
    """Of the grid's levers, the largest first; none where it has none."""
    if not evidence.grid.get("levers"):
        return []
    return gains(evidence.compared, evidence.grid, SCORE, evidence.image_scores)


def lever_findings(evidence: Evidence, found: Sequence[Gain]) -> list[Finding]:
    """One per lever, in the order of `found`; none where the grid has no levers."""
    if not evidence.grid.get("levers"):
        return []
    if not found:
        text = "No lever can be paired with the base yet: the sweep has not come so far."
        return [Finding("levers", text, {}, "note", "high")]
    clear = sum(gain.estimate.low > 0 for gain in found)
    verb = "helps" if clear == 1 else "help"
    head = (
        f"{len(found)} levers, each alone against the base at the same seeds and on the same "
        f"images: {clear} clearly {verb}. One interval in 20 misses by chance. "
        f"They are {judged_text(evidence.judged_by, evidence.metric)}."
    )
    return [
        Finding("levers", head, {"num_levers": len(found), "num_clear": clear}, "note", "high"),
        *map(_finding, found),
    ]


def _finding(gain: Gain) -> Finding:
    estimate = gain.estimate
    interval = "" if math.isnan(estimate.low) else f" {span(estimate.low, estimate.high)}"
    pairs = "pair" if estimate.num == 1 else "pairs"
    sentence = (
        f"{gain.lever}: {signed(estimate.value)}{interval} points ({estimate.num} {pairs}), "
        f"{_verdict(gain)}."
    )
    numbers = {
        "lever": gain.lever,
        "gain": estimate.value,
        "interval": [estimate.low, estimate.high],
        "num_pairs": estimate.num,
        "mean_score": gain.mean,
        "pairs": gain.trial_ids,
    }
    return Finding("levers", sentence, numbers, "note", "medium")


def _verdict(gain: Gain) -> str:
    estimate = gain.estimate
    if math.isnan(estimate.low):
        return "without an interval: add seeds"
    if estimate.is_nothing:
        return "no difference"
    if not estimate.is_clear:
        return "cannot be told yet"
    return "helps" if estimate.value > 0 else "hurts"
