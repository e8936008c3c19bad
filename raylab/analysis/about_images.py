"""Why does it stop here: classes that look alike, images that all get wrong, leaks."""

from typing import Any

import numpy as np
import numpy.typing as npt

from raylab.analysis.evidence import Evidence
from raylab.analysis.finding import Finding, Severity, points
from raylab.analysis.labels import LabelQuality
from raylab.analysis.outofsample import OutOfSample
from raylab.analysis.separability import ConfusedPair, confused_pairs

CONFUSED = 0.1
SEPARATED = 0.9
NEARLY_EVERY = 0.9
MIN_TRIALS = MIN_CONFIGS = 3
NUM_PAIRS = 3


def class_findings(evidence: Evidence, quality: LabelQuality | None) -> list[Finding]:
    """The pairs of classes that even the best config confuses."""
    configs = evidence.by_family
    if not configs:
        return []
    shared = [c for c in configs if np.array_equal(c.classes, configs[0].classes)]
    every = confused_pairs(shared)
    pairs = [
        pair
        for pair in every
        if max(pair.first_as_second, pair.second_as_first) >= CONFUSED
        and pair.best_two_way < SEPARATED
    ]
    if not pairs:
        text = (
            "No two classes are both confused (10 % of either) and hard to tell apart (less than "
            "90 % right between the two)."
        )
        if all(pair.best_two_way >= SEPARATED for pair in every):
            text = "Every two classes are told apart by some config (90 % or more between the two)."
        return [Finding("classes", text, {"num_configs": len(shared)}, "note", "medium")]
    return [_pair(pair, len(shared), evidence, quality) for pair in pairs[:NUM_PAIRS]]


def _pair(
    pair: ConfusedPair, num_configs: int, evidence: Evidence, quality: LabelQuality | None
) -> Finding:
    sentence = (
        f"No config separates {pair.first} from {pair.second}: {points(pair.first_as_second)} % of "
        f"{pair.first} is called {pair.second}, {points(pair.second_as_first)} % the other way "
        f"(mean of {num_configs} configs); between the two alone the best config is right on "
        f"{points(pair.best_two_way)} % (a coin: 50)."
    )
    numbers: dict[str, Any] = {
        "classes": [pair.first, pair.second],
        "first_as_second": pair.first_as_second,
        "second_as_first": pair.second_as_first,
        "best_two_way_accuracy": pair.best_two_way,
        "num_images": pair.num_images,
    }
    if quality is not None and evidence.opinion is not None:
        swapped = _swapped(pair, evidence.opinion, quality)
        numbers["swapped_labels"] = swapped
        if quality.is_clear and max(swapped) >= CONFUSED / 2:
            sentence += (
                f" Up to {points(swapped[0])} and {points(swapped[1])} of these points are in the "
                "labels themselves."
            )
    return Finding("classes", sentence, numbers, "warning", "medium")


def _swapped(pair: ConfusedPair, seen: OutOfSample, quality: LabelQuality) -> list[float]:
    """Of the images labelled `first` the share that shows `second`, and the other way; no more
    than is confused.
    """
    a, b = seen.classes.index(pair.first), seen.classes.index(pair.second)
    true, labels = quality.fit.true, seen.labels
    return [
        min(float(true[labels == a, b].mean()), pair.first_as_second),
        min(float(true[labels == b, a].mean()), pair.second_as_first),
    ]


def image_findings(evidence: Evidence) -> list[Finding]:
    """The images that nearly every trial gets wrong, and whether the trials agree on another."""
    seen = evidence.all_opinions
    if seen is None:
        return []
    judged = seen.num_trials >= MIN_TRIALS
    wrong = judged & (seen.wrong_frac >= NEARLY_EVERY)
    if not wrong.any():
        return []
    share = float(wrong.sum() / judged.sum())
    sure = wrong & (seen.probs.max(axis=1) > 0.5)
    sentence = (
        f"{wrong.sum():,} of {judged.sum():,} validation images ({points(share)} %) are wrong in "
        f"at least 9 of 10 trials; on {sure.sum():,} of them the trials agree on another class."
    )
    right = [_num_right(config, seen.image_ids[wrong]) for config in evidence.by_family]
    if len(right) >= MIN_CONFIGS and not any(right):
        sentence += f" None of the {len(right)} configs reaches these."
    elif len(right) >= MIN_CONFIGS:
        sentence += f" One of the {len(right)} configs is right on {max(right):,} of these."
    numbers = {
        "num_images": int(judged.sum()),
        "num_nearly_always_wrong": int(wrong.sum()),
        "num_agreed_on_another": int(sure.sum()),
        "num_right_by_one_config": max(right, default=0),
        "image_ids": list(seen.image_ids[wrong][np.argsort(-seen.probs[wrong].max(axis=1))][:20]),
    }
    severity: Severity = "warning" if share > 0.02 else "note"
    return [Finding("images", sentence, numbers, severity, "high")]


def _num_right(config: OutOfSample, image_ids: npt.NDArray[np.str_]) -> int:
    """On how many of these images the config's trials are right together."""
    rows = np.isin(config.image_ids, image_ids)
    return int((config.probs[rows].argmax(axis=1) == config.labels[rows]).sum())


def leak_findings(evidence: Evidence) -> list[Finding]:
    """Scored images whose exact copies were trained on."""
    found = []
    for leak in evidence.leaks:
        sides = (
            ("validation", leak.copied_val, leak.num_val),
            ("test", leak.copied_test, leak.num_test),
        )
        for side, copied, total in sides:
            if not copied:
                continue
            sentence = (
                f"Leak: {len(copied):,} of {total:,} {side} images "
                f"({points(len(copied) / total)} %) are byte for byte in the training split too "
                f"(split {leak.split_fingerprint}); its accuracy is inflated, and differences "
                "between configs with it. Other split strategies than given keep copies together."
            )
            numbers = {
                "split_fingerprint": leak.split_fingerprint,
                "side": side,
                "num_copied": len(copied),
                "num_images": total,
                "image_ids": sorted(copied)[:20],
                "examples": leak.examples,
            }
            found.append(Finding("leaks", sentence, numbers, "problem", "high"))
    if evidence.leaks and not found:
        text = "No scored image is byte for byte in the training split (near-copies: raylab audit)."
        found.append(Finding("leaks", text, {"num_splits": len(evidence.leaks)}, "note", "high"))
    return found
