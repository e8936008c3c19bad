"""From a results directory to the answer to "why does it stop here?", and what to try next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from raylab.analysis.about_axes import axis_findings, verdicts_of
from raylab.analysis.about_images import class_findings, image_findings, leak_findings
from raylab.analysis.about_labels import label_findings, not_judged
from raylab.analysis.about_levers import lever_findings, lever_gains
from raylab.analysis.about_training import curve_findings, fit_findings, seed_findings
from raylab.analysis.evidence import Evidence, gather
from raylab.analysis.finding import Finding
from raylab.analysis.labels import LabelQuality, can_be_judged, estimate_quality, suspects
from raylab.analysis.levers import Gain
from raylab.analysis.next_grid import NextGrid, Wish, next_grid
from raylab.analysis.verdicts import Verdict
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory

NOISY = 0.05


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the suspicious images, and the next grid."""

    findings: tuple[Finding, ...]
    suspects: pd.DataFrame | None
    """`suspects` of analysis/labels.py; None where labels could not be judged."""
    next: NextGrid | None
    """None where the results have no grid, or nothing is left to ask."""
    quality: LabelQuality | None = None


def diagnose(evidence: Evidence) -> Diagnosis:
    """Everything that these results say; pure."""
    seen = evidence.opinion
    quality, table = None, None
    if seen is not None and can_be_judged(seen):
        quality = estimate_quality(seen)
        table = suspects(seen, quality, evidence.images)
        about_labels = label_findings(evidence, seen, quality)
    else:
        about_labels = [not_judged(seen)]
    verdicts, pulled = verdicts_of(evidence), lever_gains(evidence)
    findings = [
        *_other_data(evidence),
        *leak_findings(evidence),
        *about_labels,
        *fit_findings(evidence, 1.0 if quality is None else quality.ceiling),
        *curve_findings(evidence),
        *seed_findings(evidence, verdicts),
        *lever_findings(evidence, pulled),
        *axis_findings(evidence, verdicts),
        *class_findings(evidence, quality),
        *image_findings(evidence),
    ]
    ahead, about_next = _next(evidence, verdicts, pulled, findings)
    return Diagnosis((*findings, *about_next), table, ahead, quality)


def diagnose_results(results: ResultsDirectory) -> Diagnosis:
    """Reads the results, writes suspects.parquet and next.yaml into them; where there is no next
    grid, that of an earlier diagnosis is deleted.

    Refused if they hold no complete trial.
    """
    diagnosis = diagnose(gather(results))
    if diagnosis.suspects is not None:
        table = pa.Table.from_pandas(diagnosis.suspects, preserve_index=False)
        results.write_suspects(table)
    if diagnosis.next is None:
        results.delete_next_grid()
    else:
        results.write_next_grid(diagnosis.next.text())
    return diagnosis


def _other_data(evidence: Evidence) -> list[Finding]:
    if not evidence.num_other_data:
        return []
    sentence = (
        f"{evidence.num_other_data} trials learned from another state of the data and are left out."
    )
    return [Finding("data", sentence, {"num_trials": evidence.num_other_data}, "warning", "high")]


def _next(
    evidence: Evidence,
    verdicts: Sequence[Verdict],
    pulled: Sequence[Gain],
    findings: Sequence[Finding],
) -> tuple[NextGrid | None, list[Finding]]:
    if not evidence.grid:
        return None, []
    wish = _wish(findings, pulled)
    if evidence.judged_by != evidence.metric:
        verdicts, pulled = [verdict for verdict in verdicts if verdict.kind == "dead"], []
    try:
        ahead = next_grid(evidence.grid, verdicts, wish, pulled)
    except Refused as refused:
        text = f"No next grid: the sweep's own is not accepted ({refused.problems[0]})."
        return None, [Finding("next", text, {}, "note", "high")]
    if ahead is None:
        text = "No next grid: nothing points to a trial that this sweep did not ask for."
        return None, [Finding("next", text, {}, "note", "medium")]
    sentence = f"Next: {'; '.join(ahead.reasons[1:])} ({ahead.num_trials} trials)."
    return ahead, [Finding("next", sentence, {"reasons": ahead.reasons}, "note", "medium")]


def _wish(findings: Sequence[Finding], pulled: Sequence[Gain]) -> Wish:
    """What the findings ask for, read from their numbers."""
    by_topic: dict[str, Any] = {finding.topic: finding for finding in reversed(findings)}
    fit, curve, labels = by_topic.get("fit"), by_topic.get("curve"), by_topic.get("labels")
    gains = curve.evidence.get("gain") if curve else None
    helps = bool(gains and gains[1] > 0.002)
    unclear = any(f.evidence.get("verdict") == "unclear" for f in findings)
    unclear |= any(not (g.estimate.is_clear or g.estimate.is_nothing) for g in pulled)
    seeds = by_topic.get("seeds")
    interval = labels.evidence.get("noise_rate_interval", [0.0]) if labels else [0.0]
    return Wish(
        more_seeds=unclear or bool(seeds and seeds.severity == "warning"),
        more_epochs=int(curve.evidence["more_epochs"]) if curve and helps else 0,
        more_augmentation=bool(fit and fit.evidence.get("gap", 0.0) > 0.1),
        more_learning=bool(fit and not helps and not fit.evidence.get("has_learned", True)),
        soft_labels=interval[0] > NOISY,
    )
