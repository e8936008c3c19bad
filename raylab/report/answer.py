"""From families, ties and findings to the answer: what won, is it really better, what next."""

from collections.abc import Collection, Sequence

import pandas as pd

from raylab.analysis.comparison import NOT_COMPARED, SCREEN_LEVEL, stopped_early
from raylab.analysis.families import clearly_worse
from raylab.analysis.finding import Finding
from raylab.report.blocks import Answer, Chart
from raylab.report.figures import ends, figure, label, rows, spans
from raylab.report.material import Part
from raylab.report.palette import ACCENT, REST, TIED, TIED_KEY, WINNER
from raylab.report.wording import count, interval, percent
from raylab.results.table import value_text

MAX_SHOWN = 12
MAX_NEXT = 4
BESIDE = 2
"""Epochs before and after the best one that are set against it."""


def answer(part: Part) -> Answer:
    """The answer of one part; also where nothing was measured."""
    winner = part.winner
    if winner is None:
        return _no_winner(part)
    is_accuracy = part.metric == "val_accuracy"
    really, why = _really(part) if is_accuracy else _unjudged(part)
    value = percent(winner["family_mean"])
    if not is_accuracy:
        value = f"{part.metric} {value_text(float(winner[part.metric]))}"
    return Answer(
        winner=part.names[str(winner["family_id"])],
        value=value,
        interval=interval(winner["family_low"], winner["family_high"]) if is_accuracy else "",
        really=really,
        why=why,
        then=_next(part),
        warnings=[f.sentence for f in _findings(part) if f.severity == "problem"],
        notes=_test_scores(part),
    )


def forest(part: Part) -> Chart | None:
    """The best families with their intervals; None where there are no two to compare."""
    known = part.families[part.families["family_mean"].notna()].head(MAX_SHOWN)
    if len(known) < 2:
        return None
    colours = [_colour(i, str(tied)) for i, tied in enumerate(known["tied"])]
    names = [part.names[str(i)] for i in known["family_id"]]
    means, lows, highs = (
        [100 * float(v) for v in known[name]]
        for name in ("family_mean", "family_low", "family_high")
    )
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": means,
        "y": list(range(len(known))),
        "marker": {"color": colours, "size": 9},
        "text": [label(name) for name in names],
        "hovertemplate": "%{text}<br>%{x:.2f} %<extra></extra>",
    }
    chart = figure(
        [*spans(lows, highs, colours), dots],
        height=64 + 27 * len(known),
        x={"title": "accuracy, %", "range": ends([*lows, *highs, *means])},
        y=rows(names),
    )
    num = len(part.families)
    of = f"the best {len(known)} of {num:,}" if num > len(known) else f"all {num}"
    alt = (
        f"Validation accuracy of {of} configs with 95 % intervals, from {max(means):.1f} % down "
        f"to {min(means):.1f} %."
    )
    keys = [WINNER, TIED_KEY, ("rest", "shown to be worse, or not compared")]
    return Chart(chart, f"Accuracy with its 95 % interval, {of}", alt, keys=keys)


def _colour(place: int, tied: str) -> str:
    if place == 0:
        return ACCENT
    return TIED if tied == "yes" else REST


def _no_winner(part: Part) -> Answer:
    num_failed = int((part.trials["status"] == "failed").sum())
    if num_failed == len(part.trials):
        value, why = "no result", f"All {count(num_failed, 'trial')} that ended have failed."
    else:
        value, why = "no result yet", "No trial has an accuracy yet; the sweep may still run."
    return Answer("Nothing has won", value, "", "Not known", why, _next(part))


def _really(part: Part) -> tuple[str, str]:
    families = part.families[part.families["num_trials"] > 0]
    first = families.iloc[0]
    compared = families[families["tied"].isin(["yes", "no"])]
    num_tied = int((compared["tied"] == "yes").sum())
    luck = _luck(part, families)
    if len(families) == 1:
        return "Nothing to compare", "Only one config has a result." + luck
    if pd.isna(first["tied"]):
        return "Cannot be told", "The winner's predictions are missing or damaged." + luck
    others, are_open = _others(families, part.comparison.unread)
    if len(compared) < 2:
        return "Cannot be told", "No other config was compared with it in pairs." + others + luck
    images = f"{int(first['num_images']):,} validation images"
    if num_tied > 1:
        why = (
            f"{num_tied} of {len(compared)} configs may be the best: on {images} chance explains "
            "what lies between them."
        )
        return "Not shown", why + others + luck
    why = f"It beats the other {len(compared) - 1} in paired tests on the same {images}."
    if are_open:
        return "Cannot be told", why + others + luck
    if stopped_early(families).any():
        return "Yes, of those that ran to the end", why + others + luck
    is_one_seed = bool((families["num_trials"] == 1).all())
    return "Yes, for these runs" if is_one_seed else "Yes", why + others + luck


def _luck(part: Part, families: pd.DataFrame) -> str:
    """What is in the winner's accuracy beside its merit, a sentence each."""
    first, luck = families.iloc[0], ""
    cut = ", rather too many, since only the best could be paired" * part.comparison.is_cut
    if pd.notna(first["corrected"]):
        luck = (
            f" Without the luck of having been picked out of {part.comparison.num_rivals:,}, "
            f"{percent(first['corrected'])} are left{cut}; the luck of its best epoch, which the "
            f"same images picked, is still in them{_beside_best(part)}."
        )
    if (families["num_trials"] == 1).all():
        luck += " Each config ran once: the luck of the seed is in none of this."
    if "complete" not in str(first["status"]):
        luck += " It was itself stopped early."
    elif "pruned" in str(first["status"]):
        luck += (
            " Some of its seeds were stopped early; those left were picked by their accuracy, so "
            "that its mean is too high."
        )
    if "failed" in str(first["status"]):
        luck += f" Not all of its trials ended well ({first['status']})."
    return luck


def _beside_best(part: Part) -> str:
    """The winner's accuracy in the epochs around its best one, which nobody picked."""
    best = part.winner_trials.set_index("trial_id")["best_epoch"]
    epochs = part.epochs[part.epochs["trial_id"].isin(best.index)]
    apart = epochs["epoch"] - epochs["trial_id"].map(best)
    # Where the best epoch is the last one, those before it have learned for less long.
    went_on = epochs["trial_id"].isin(epochs.loc[apart > 0, "trial_id"])
    beside = epochs.loc[went_on & apart.abs().between(1, BESIDE), "val_accuracy"].mean()
    return "" if pd.isna(beside) else f" (the epochs around it: {percent(beside)})"


def _others(families: pd.DataFrame, unread: Collection[str]) -> tuple[str, bool]:
    """What was not compared with the winner, a sentence each; whether some of it, having learned
    as long, may be as good.
    """
    rest = families.iloc[1:]
    early = stopped_early(rest)
    unmarked = rest[~early & rest["tied"].isna()]
    missing = unmarked[~unmarked["family_id"].isin(unread)]
    elsewhere = rest[~early & (rest["tied"] == NOT_COMPARED)]
    said, are_open = "", len(unmarked) > 0
    if len(elsewhere):
        hopeless = clearly_worse(pd.concat([families.iloc[:1], elsewhere]), SCREEN_LEVEL)
        num_open = int((~hopeless.iloc[1:]).sum())
        are_open |= num_open > 0
        rivals = f"{num_open:,} of them may be as good" if num_open else "all clearly worse"
        said += f" {len(elsewhere):,} more validated other images: {rivals}."
    if len(missing):
        said += f" {len(missing):,} more have no predictions that could be read."
    if len(unmarked) > len(missing):
        num_unread = len(unmarked) - len(missing)
        said += f" {num_unread:,} more were not read: only the best are compared."
    if early.any():
        said += f" {int(early.sum()):,} more were stopped early, and are not compared."
    return said, are_open


def _unjudged(part: Part) -> tuple[str, str]:
    return "Not judged", f"The sweep ranks by {part.metric}; ties are told for val_accuracy only."


def _next(part: Part) -> list[str]:
    steps = [f.sentence.replace("Next:", "Run next:") for f in _findings(part) if f.topic == "next"]
    num_failed = int((part.trials["status"] == "failed").sum())
    if num_failed:
        steps.append(
            f"{count(num_failed, 'trial')} failed; mend the cause (see Failures) and run the sweep "
            "again with --retry-failed."
        )
    steps += [
        f"{sweep.name}: {count(sweep.num_missing, 'trial')} of {sweep.num_planned:,} have not "
        "ended; the same command goes on."
        for sweep in part.sweeps
        if sweep.num_missing
    ]
    return steps[:MAX_NEXT] or ["Nothing in these results points anywhere."]


def _test_scores(part: Part) -> list[str]:
    """What `final` found on the locked test split, if it was asked."""
    notes = []
    for sweep in part.sweeps:
        final = sweep.results.final()
        if final is None or final.get("data_fingerprint") != part.data_fingerprint:
            continue
        test = final["test"]
        notes.append(
            f"{sweep.name}: locked test split {percent(test['accuracy'])} "
            f"[{interval(test['accuracy_low'], test['accuracy_high'])}] on "
            f"{test['num_images']:,} images, scored {count(final['scorings'], 'time')}"
        )
    return notes


def _findings(part: Part) -> Sequence[Finding]:
    return [f for sweep in part.sweeps if sweep.diagnosis for f in sweep.diagnosis.findings]
