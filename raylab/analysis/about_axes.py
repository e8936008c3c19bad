"""Why does it stop here: what the axes of the sweep explain, and which of them are dead."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from raylab.analysis.axes import remaining
from raylab.analysis.effects import Effect, interactions
from raylab.analysis.evidence import SCORE, Evidence
from raylab.analysis.finding import Confidence, Finding, Severity, points, signed, span
from raylab.analysis.importance import importances
from raylab.analysis.levers import is_pulled
from raylab.analysis.measures import judged_text
from raylab.analysis.verdicts import Verdict, judge, without_copies

NUM_INTERACTIONS = 3
WORTH_NAMING = 0.005
MAX_INTERACTION_LEVELS = 6
MAY_IDLE = {"patience", "lr_schedule", "class_weights", "amp", "compile", "split.conflicts"}
"""Fields that act only where something comes up: epochs without gain, unequal classes, a GPU."""


def verdicts_of(evidence: Evidence) -> list[Verdict]:
    """One verdict per axis of the compared trials."""
    return judge(evidence.compared, evidence.axes, SCORE, evidence.image_scores)


def axis_findings(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Finding]:
    """Per axis what it changes; interactions worth naming; importance by functional ANOVA.

    What only levers move is told by `lever_findings`.
    """
    if evidence.grid.get("levers"):
        of_levers = partial(is_pulled, evidence.grid)
        verdicts = [v for v in verdicts if not all(map(of_levers, v.axis.fields))]
        return [_judged(evidence), *_each(evidence, verdicts)] if verdicts else []
    if not verdicts:
        text = "The trials differ in nothing but their seed; there is no axis to judge."
        return [Finding("axes", text, {}, "note", "high")]
    found = [_judged(evidence)]
    found += [_pruned(evidence)] if evidence.num_pruned else []
    found += _each(evidence, verdicts)
    return [*found, *_interactions(evidence, verdicts), *_importance(evidence)]


def _each(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Finding]:
    return [_AXIS_TEXTS[verdict.kind](verdict, evidence) for verdict in _ordered(verdicts)]


def _judged(evidence: Evidence) -> Finding:
    judged = judged_text(evidence.judged_by, evidence.metric)
    sentence = (
        f"Axes are {judged}. At most one axis in 20 without effect seems to matter by chance."
    )
    numbers = {"judged_by": evidence.judged_by, "ranked_by": evidence.metric}
    severity: Severity = "note" if evidence.judged_by == evidence.metric else "warning"
    return Finding("axes", sentence, numbers, severity, "high")


def _ordered(verdicts: Sequence[Verdict]) -> list[Verdict]:
    kinds = ("dead", "matters", "unclear", "nothing", "unpaired")
    return sorted(verdicts, key=lambda v: (kinds.index(v.kind), -_size(v)))


def _size(verdict: Verdict) -> float:
    effect = verdict.clearest
    return abs(effect.estimate.value) if effect else 0.0


def _pruned(evidence: Evidence) -> Finding:
    sentence = (
        f"{evidence.num_pruned} of {len(evidence.trials)} trials were stopped early. Those that "
        "survived were picked by their accuracy, so that axes are judged by all trials after epoch "
        f"{evidence.common_epoch}, the last that every one reached: what helps late is missed."
    )
    numbers = {"num_pruned": evidence.num_pruned, "epoch": evidence.common_epoch}
    return Finding("axes", sentence, numbers, "note", "high")


def _numbers(verdict: Verdict) -> dict[str, Any]:
    return {
        "axis": verdict.axis.name,
        "verdict": verdict.kind,
        "best_level": verdict.best_level,
        "effects": [
            {
                "from": effect.low_level,
                "to": effect.high_level,
                "effect": effect.estimate.value,
                "interval": [effect.estimate.low, effect.estimate.high],
                "num_pairs": effect.estimate.num,
                "identical": effect.is_identical,
            }
            for effect in verdict.effects
        ],
    }


def _dead(verdict: Verdict, evidence: Evidence) -> Finding:
    num = sum(effect.estimate.num for effect in verdict.effects)
    alike = (
        f"{num} pairs of trials that differ only in it have identical metrics to the last digit."
    )
    if set(verdict.axis.fields) <= MAY_IDLE:
        sentence = f"{verdict.axis.name} changed nothing: {alike} In these runs it never acted."
        return Finding("axes", sentence, _numbers(verdict), "note", "high")
    sentence = (
        f"{verdict.axis.name} is a dead wire: {alike} Either nothing in these runs called for it, "
        "or it does not reach the training; look there first."
    )
    return Finding("axes", sentence, _numbers(verdict), "problem", "high")


def _nothing(verdict: Verdict, evidence: Evidence) -> Finding:
    effect = verdict.clearest
    assert effect is not None
    sentence = f"{verdict.axis.name} makes no difference: {_effect_text(effect)}."
    return Finding("axes", sentence, _numbers(verdict), "note", "high")


def _matters(verdict: Verdict, evidence: Evidence) -> Finding:
    effect = verdict.clearest
    assert effect is not None
    open_levels = [
        level
        for level in verdict.axis.levels
        if level not in {verdict.best_level, *verdict.worse_levels()}
    ]
    best = f"Best: {verdict.best_level}"
    best += f" (not told from {', '.join(open_levels)})" if open_levels else ""
    sentence = f"{verdict.axis.name} matters: {_effect_text(effect)}. {best}."
    confidence: Confidence = "high" if effect.estimate.num >= 6 else "medium"
    return Finding("axes", sentence, _numbers(verdict), "note", confidence)


def _unclear(verdict: Verdict, evidence: Evidence) -> Finding:
    effect = verdict.clearest
    assert effect is not None
    sentence = f"What {verdict.axis.name} does cannot be told yet: {_effect_text(effect)}"
    severity: Severity = "note"
    if effect.estimate.num == 1:
        sentence += "; one pair gives no interval: add seeds."
    else:
        sentence += "; more seeds would narrow it."
        severity = "warning" if effect.estimate.high - effect.estimate.low > 0.02 else "note"
    return Finding("axes", sentence, _numbers(verdict), severity, "medium")


def _unpaired(verdict: Verdict, evidence: Evidence) -> Finding:
    sentence = (
        f"No two trials differ in {verdict.axis.name} alone, so that its effect cannot be paired; "
        "its importance is all that can be said."
    )
    return Finding("axes", sentence, _numbers(verdict), "note", "low")


_AXIS_TEXTS = {
    "dead": _dead,
    "nothing": _nothing,
    "matters": _matters,
    "unclear": _unclear,
    "unpaired": _unpaired,
}


def _effect_text(effect: Effect) -> str:
    """`light over none +2.1 [1.5, 2.7] points (12 pairs)`, the better one first."""
    value, low, high = effect.estimate.value, effect.estimate.low, effect.estimate.high
    better, worse = effect.high_level, effect.low_level
    if value < 0:
        value, low, high, better, worse = -value, -high, -low, worse, better
    interval = "" if effect.estimate.num == 1 else f" {span(low, high)}"
    pairs = "pair" if effect.estimate.num == 1 else "pairs"
    return f"{better} over {worse} {signed(value)}{interval} points ({effect.estimate.num} {pairs})"


def _interactions(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Finding]:
    """The largest clear ones, one per two axes."""
    frame = without_copies(evidence.compared, evidence.compared, verdicts).reset_index(drop=True)
    axes = remaining(evidence.axes, frame)
    paired = {verdict.axis.name for verdict in verdicts if verdict.effects}
    asked = [a for a in axes if a.name in paired and len(a.levels) <= MAX_INTERACTION_LEVELS]
    found: dict[tuple[str, str], Finding] = {}
    for known in interactions(frame, axes, asked, SCORE, evidence.image_scores):
        clear = known.estimate.is_clear and abs(known.estimate.value) >= WORTH_NAMING
        if not clear or known.axes in found or len(found) == NUM_INTERACTIONS:
            continue
        (a, b), (c, d) = known.levels
        first, second = known.axes
        sentence = (
            f"{first} and {second} depend on each other: {b} over {a} ({first}) is "
            f"{signed(known.at_first)} points at {second} {c} and {signed(known.at_second)} at "
            f"{d}, a difference of {signed(known.estimate.value)} "
            f"{span(known.estimate.low, known.estimate.high)}."
        )
        numbers = {
            "axes": known.axes,
            "levels": known.levels,
            "effects": [known.at_first, known.at_second],
            "difference": known.estimate.value,
            "interval": [known.estimate.low, known.estimate.high],
            "num_squares": known.estimate.num,
        }
        found[known.axes] = Finding("axes", sentence, numbers, "note", "medium")
    return list(found.values())


def _importance(evidence: Evidence) -> list[Finding]:
    """Shares of the variance, where configs were drawn rather than crossed, or trials pruned."""
    search = evidence.grid.get("search", "grid")
    if search == "grid" and not evidence.num_pruned:
        return []
    shares = importances(evidence.compared, evidence.axes, SCORE)
    if shares is None:
        return []
    num, confidence = len(evidence.compared), _confidence_of(evidence)
    if not shares:
        text = f"No axis explains more of the variance between these {num} trials than chance does."
        return [Finding("axes", text, {"num_trials": num}, "note", confidence)]
    listed = ", ".join(f"{i.axis} {points(i.share, 0)} %" for i in shares)
    sentence = f"Of the variance between configs that a random forest explains: {listed}"
    if len(shares) < len(evidence.axes):
        sentence += "; the others no more than chance does"
    if evidence.common_epoch is not None:
        sentence += (
            f" ({evidence.judged_by} after epoch {evidence.common_epoch}, {evidence.num_pruned} "
            "pruned trials included)"
        )
    numbers = {i.axis: {"share": i.share, "range_over_forests": [i.low, i.high]} for i in shares}
    return [Finding("axes", sentence + ".", numbers, "note", confidence)]


def _confidence_of(evidence: Evidence) -> Confidence:
    return "medium" if len(evidence.compared) >= 30 else "low"
