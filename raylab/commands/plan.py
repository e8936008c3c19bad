"""`raylab plan`: what a sweep would do."""

import json
from typing import Any

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import AsJson, Data, GridPath, Results, Settings


def plan(
    grid: GridPath,
    settings: Settings = None,
    data: Data = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Say what `sweep` would do, touching nothing.

    raylab plan grids/models.yaml --data faces
    """
    with exit_codes():
        from raylab.config.grid import read_grid
        from raylab.images.source import scan
        from raylab.results.directory import ResultsDirectory
        from raylab.sweep.plan import Plan

        wanted = read_grid(grid, overrides=settings or (), data=data)
        directory = ResultsDirectory(results or f"results/{wanted.name}")
        summary = Plan(wanted, scan(wanted.data)).summary(directory)
        typer.echo(json.dumps(summary, ensure_ascii=False) if as_json else plan_text(summary))


def plan_text(summary: dict[str, Any]) -> str:
    """The plan as a few lines for people."""
    classes = ", ".join(f"{name} {count:,}" for name, count in summary["classes"].items())
    folds = " or ".join(str(number) for number in summary["folds"])
    lines = [
        f"{summary['name']}: {summary['trials']:,} trials, {summary['done']:,} already done",
        f"axes      {', '.join(summary['fields']) or 'none'}",
        *([f"folds     {folds} for each config and seed (split.fold)"] if folds else []),
        f"images    {summary['images']:,} ({classes})",
        *(f"          {line}" for line in summary["remarks"]),
        f"epochs    {summary['epochs']:,} in all",
        f"results   {summary['results']}",
    ]
    for variant in summary["variants"]:
        depth = "grey" if variant["channels"] == 1 else "RGB"
        size = f"{variant['image_size']} px {depth}, {variant['bytes'] / 2**20:,.1f} MiB"
        lines.append(f"variant   {variant['variant_id']}  {size}")
    return "\n".join(lines)
