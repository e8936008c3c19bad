"""From records and environments to where the results came from."""

from typing import Any

import pandas as pd
import yaml

from raylab.report.blocks import Block, Column, Note, Section, Table
from raylab.report.material import Part, Sweep
from raylab.report.wording import count
from raylab.results.table import BLANK
from raylab.storage import without_secrets


def provenance(part: Part) -> Section:
    """Versions, code, hardware, fingerprints, and each sweep's grid."""
    blocks: list[Block] = []
    for sweep in part.sweeps:
        facts = _facts(sweep)
        rows = [[name, without_secrets(value)] for name, value in facts.items() if value]
        blocks.append(Table(sweep.name, [Column("what"), Column("value")], rows))
        if sweep.grid:
            text = yaml.safe_dump(dict(sweep.grid), sort_keys=False, allow_unicode=True)
            title = f"The grid of {sweep.name}"
            blocks.append(Note(without_secrets(text), is_source=True, title=title))
    return Section("Provenance", blocks)


def _facts(sweep: Sweep) -> dict[str, str]:
    trials = sweep.trials
    known = _environment(sweep)
    packages: dict[str, Any] = known.get("packages") or {}
    images = sweep.evidence.images if sweep.evidence is not None else pd.DataFrame()
    memory = known.get("memory_bytes")
    return {
        "results": sweep.results.location,
        "data": str(sweep.grid.get("data", "")),
        "images": f"{len(images):,}" if len(images) else "",
        "data fingerprint": str(trials["data_fingerprint"].iloc[0]),
        "splits": _listed(trials, "split_fingerprint"),
        "first start": str(trials["started_at"].min() or BLANK),
        "raylab": _listed(trials, "raylab_version"),
        "commit": _listed(trials, "git_sha"),
        "uncommitted changes": _changes(known.get("git_diff")),
        "python": str(known.get("python", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "platform": str(known.get("platform", "")),
        "processor": _processor(known),
        "memory": f"{memory / 2**30:.0f} GiB" if isinstance(memory, int) else "",
        "GPUs": ", ".join(map(str, known.get("gpus") or [])),
        "devices": _listed(trials, "device"),
        "precision": _listed(trials, "precision"),
    }


def _environment(sweep: Sweep) -> dict[str, Any]:
    try:
        return sweep.results.environment()
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _listed(trials: pd.DataFrame, name: str) -> str:
    values = [str(value) for value in trials[name].dropna().unique() if str(value)]
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return ", ".join(values[:6]) + more


def _processor(known: dict[str, Any]) -> str:
    if not known.get("cpu"):
        return ""
    return f"{known['cpu']}, {count(int(known.get('num_cpus') or 0), 'core')}"


def _changes(diff: Any) -> str:
    if not isinstance(diff, str) or not diff.strip():
        return ""
    num = sum(1 for text in diff.splitlines() if text.startswith("diff --git"))
    return f"in {count(num, 'file')} (environment.json has the diff)"
