"""Why does it stop here: are the labels the limit, and whose labels."""

import numpy as np

from raylab.analysis.evidence import Evidence
from raylab.analysis.finding import Finding, points, span
from raylab.analysis.labels import CLEAR_NOISE, MAX_CLASSES, LabelQuality
from raylab.analysis.outofsample import OutOfSample

SWAPPED = 0.1


def label_findings(evidence: Evidence, seen: OutOfSample, quality: LabelQuality) -> list[Finding]:
    """The ceiling, the labels that are worst, the pairs that are swapped."""
    return [
        _ceiling(evidence, seen, quality),
        *_worst_label(seen, quality),
        *_swapped(seen, quality),
    ]


def not_judged(seen: OutOfSample | None) -> Finding:
    """What is said when labels cannot be judged; seen: None without predictions."""
    num_images = 0 if seen is None else len(seen.labels)
    text = (
        f"Label quality cannot be judged from {num_images:,} validation images with predictions "
        "(100 are needed, 5 of each class); split.folds: 5 would give every image one."
    )
    if seen is not None and len(seen.classes) > MAX_CLASSES:
        text = (
            f"Label quality is not judged: {len(seen.classes)} classes are too many to weigh each "
            f"against each (at most {MAX_CLASSES})."
        )
    return Finding("labels", text, {"num_images": num_images}, "note", "low")


def _ceiling(evidence: Evidence, seen: OutOfSample, quality: LabelQuality) -> Finding:
    best = float(evidence.best_family["val_accuracy"].mean())
    missing, room = 1 - best, quality.ceiling - best
    low, high = 1 - quality.rate_high, 1 - quality.rate_low
    if not quality.is_clear:
        sentence = (
            f"Whether labels are wrong cannot be told from these {len(seen.labels):,} images: "
            f"{points(quality.rate)} % would fit best, and anything in "
            f"{span(quality.rate_low, quality.rate_high)} is possible where noise hangs on the "
            f"class alone; cleanlab, which also counts the models' own confident mistakes, says "
            f"{points(quality.cleanlab_rate)} %. {_how_to_tell(evidence)}"
        )
        if quality.num_suspects:
            sentence += (
                f" What the models dispute ({quality.num_suspects:,} in suspects.parquet) may be "
                "hard images with the right label: look before dropping any."
            )
        return Finding("labels", sentence, _numbers(seen, quality, best), "note", "low")
    sentence = (
        f"About {points(quality.rate)} % of the labels are wrong "
        f"{span(quality.rate_low, quality.rate_high)}, so that a perfect classifier would score "
        f"{points(quality.ceiling)} % {span(low, high)} against them. "
        f"The best config scores {points(best)} %: of the {points(missing)} points missing, "
        f"{points(min(quality.rate, missing))} are the labels' and {points(max(room, 0))} are left "
        f"for models; against true labels the averaged models would score about "
        f"{points(quality.true_accuracy)} %."
    )
    if room < 0:
        sentence += " A score above the ceiling means that models learned how labels were made."
    if quality.confidence == "low":
        sentence += (
            " The models are seldom sure, so that their doubt and wrong labels are hard to tell "
            "apart: take it as a rough guess."
        )
    return Finding("labels", sentence, _numbers(seen, quality, best), "warning", quality.confidence)


def _how_to_tell(evidence: Evidence) -> str:
    best = evidence.best_family
    if "split.folds" in best and best["split.folds"].max() > 1:
        return "A better model would tell."
    return "split.folds: 5 would give every image an opinion."


def _numbers(seen: OutOfSample, quality: LabelQuality, best: float) -> dict[str, object]:
    return {
        "num_images": len(seen.labels),
        "num_trials_per_image": float(seen.num_trials.mean()),
        "classes": list(seen.classes),
        "noise_rate": quality.rate,
        "noise_rate_interval": [quality.rate_low, quality.rate_high],
        "ceiling": quality.ceiling,
        "ceiling_interval": [1 - quality.rate_high, 1 - quality.rate_low],
        "noise_matrix": quality.fit.matrix,
        "wrong_per_label": dict(zip(seen.classes, quality.wrong_per_class, strict=True)),
        "wrong_per_true_class": dict(
            zip(seen.classes, 1 - np.diag(quality.fit.matrix), strict=True)
        ),
        "best_val_accuracy": best,
        "averaged_accuracy": seen.accuracy,
        "estimated_true_accuracy": quality.true_accuracy,
        "sure_frac": quality.sure_frac,
        "cleanlab_noise_rate": quality.cleanlab_rate,
    }


def _worst_label(seen: OutOfSample, quality: LabelQuality) -> list[Finding]:
    """The class with the largest share of wrong labels, if it stands out from the whole."""
    worst = int(np.nanargmax(quality.wrong_per_class))
    low, high = quality.wrong_per_class_low[worst], quality.wrong_per_class_high[worst]
    if low <= max(quality.rate, CLEAR_NOISE):
        return []
    cleanest = int(np.nanargmin(quality.wrong_per_class))
    sentence = (
        f"The label {seen.classes[worst]} is the least reliable: about "
        f"{points(quality.wrong_per_class[worst])} % {span(low, high)} of its images show "
        f"something else ({seen.classes[cleanest]}: {points(quality.wrong_per_class[cleanest])} %)."
    )
    numbers = {
        name: [share, low, high]
        for name, share, low, high in zip(
            seen.classes,
            quality.wrong_per_class,
            quality.wrong_per_class_low,
            quality.wrong_per_class_high,
            strict=True,
        )
    }
    return [Finding("labels", sentence, numbers, "warning", quality.confidence)]


def _swapped(seen: OutOfSample, quality: LabelQuality) -> list[Finding]:
    """The true class that most often carries one certain other label, where that is clear."""
    if not quality.is_clear:
        return []
    matrix = quality.fit.matrix - np.diag(np.diag(quality.fit.matrix))
    true, given = np.unravel_index(int(matrix.argmax()), matrix.shape)
    share = float(matrix[true, given])
    others = np.delete(matrix[true], [true, given]).max(initial=0)
    low = float(quality.matrix_low[true, given])
    if share < SWAPPED or share < 2 * others or low < max(CLEAR_NOISE, others):
        return []
    sentence = (
        f"About {points(share, 0)} % of the faces that show {seen.classes[true]} are labelled "
        f"{seen.classes[given]} (at least {points(low, 0)} %): a confusion of these two in the "
        "labels."
    )
    numbers = {"true": seen.classes[true], "given": seen.classes[given], "share": share, "low": low}
    return [Finding("labels", sentence, numbers, "warning", quality.confidence)]
