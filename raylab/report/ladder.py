"""From pruned trials to ASHA's ladder: how many trials reached each rung."""

from collections.abc import Mapping
from typing import Any

from raylab.report.blocks import Chart, Section
from raylab.report.figures import bars, figure, rows
from raylab.report.material import Sweep
from raylab.report.wording import count


def ladder(sweep: Sweep) -> Section:
    """Only where trials were pruned."""
    trials = sweep.trials[sweep.trials["status"] != "failed"]
    num_pruned = int((trials["status"] == "pruned").sum())
    if not num_pruned:
        return Section("ASHA's ladder", [])
    longest = int(trials["epochs"].max())
    steps = rungs(sweep.grid, longest) or sorted(trials["num_epochs"].astype(int).unique())
    reached = [int((trials["num_epochs"] >= rung).sum()) for rung in steps]
    drawn = bars(
        reached,
        text=[f"{num:,}" for num in reached],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{x} trials<extra></extra>",
    )
    chart = figure(
        [drawn],
        height=64 + 34 * len(steps),
        x={"title": "trials that reached the rung", "rangemode": "tozero"},
        y=rows([f"epoch {rung}" for rung in steps]),
        bargap=0.45,
    )
    said = ", ".join(f"{n:,} reached epoch {r}" for n, r in zip(reached, steps, strict=True))
    spent, whole = int(trials["num_epochs"].sum()), int(trials["epochs"].sum())
    lead = (
        f"{count(num_pruned, 'trial')} of {len(trials):,} were stopped early; {spent:,} epochs "
        f"ran, {spent / max(whole, 1):.0%} of the {whole:,} of all trials run to their end."
    )
    return Section("ASHA's ladder", [Chart(chart, "", f"{said}.", "")], lead)


def rungs(grid: Mapping[str, Any], longest: int) -> list[int]:
    """The epochs at which ASHA compares, and the last one; empty where the grid names no ASHA."""
    scheduler = grid.get("scheduler")
    if scheduler != "asha" and not (isinstance(scheduler, Mapping) and "asha" in scheduler):
        return []
    given = scheduler["asha"] if isinstance(scheduler, Mapping) else {}
    rung, factor = int(given.get("grace_epochs", 2)), int(given.get("reduction_factor", 3))
    found = []
    while rung < longest and factor > 1:
        found.append(rung)
        rung *= factor
    return [*found, longest]
