"""`raylab audit`: what is wrong with images, before any training."""

import io
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import AsJson

MAX_REASONS = 5


def audit(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="As `data` of a grid.")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="A row per image.")
    ] = "audit.parquet",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if anything is wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find unreadable, blank, duplicate, mislabelled and leaking images.

    raylab audit faces --strict -o audit.parquet
    """
    with exit_codes():
        from raylab.images.audit import audit as run_audit
        from raylab.images.source import scan
        from raylab.storage import file_at

        folder, name = file_at(output)  # refused now rather than after hours
        progress, close = shown_progress()
        try:
            found = run_audit(scan(source), progress)
        finally:
            close()
        folder.write_table(name, found.table)
        summary = found.summary()
        typer.echo(json.dumps(summary, ensure_ascii=False) if as_json else audit_text(summary))
        typer.echo(output, err=True)
        if strict and summary["wrong"]:
            sys.exit(1)


def shown_progress() -> tuple[Callable[[str, int, int], None], Callable[[], None]]:
    """(a bar per stage on stderr, what ends it); nothing is shown where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    bars = Progress(console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    bars.start()
    return show, bars.stop


def audit_text(summary: dict[str, Any]) -> str:
    """The summary as a table for people: what, how many, more about it; and the remarks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in ((summary["source"], "left"), ("images", "right"), ("", "left")):
        table.add_column(Text(name), justify=justify)  # type: ignore[arg-type]
    for row in _rows(summary):
        table.add_row(*(Text(cell) for cell in row))
    sink = io.StringIO()
    Console(file=sink, width=10_000, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in sink.getvalue().splitlines() if line.strip()]
    return "\n".join([*lines, *summary["remarks"]])


def _rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    def row(what: str, name: str, more: str = "") -> tuple[str, str, str]:
        return what, f"{summary[name]:,}", more

    def copies(what: str, name: str, more: str = "") -> tuple[str, str, str]:
        singular = name.removesuffix("s")
        count = summary[f"{singular}_groups"]
        return row(what, name, f"in {count:,} groups{more}" if count else "")

    sizes = summary["sizes"]
    named = _listed(sizes["common"])
    left = sizes["num"] - len(sizes["common"])
    recoded = "a sweep takes them for different images" if summary["recoded"] else ""
    reasons = list(summary["reasons"].items())[:MAX_REASONS]
    rows = [
        row("images", "images", _listed(summary["classes"])),
        *([row("given splits", "images", _listed(summary["splits"]))] if summary["splits"] else []),
        row("sizes", "images", f"{named} and {left:,} other sizes" if left else named),
        row("modes", "images", _listed(summary["modes"])),
        row("distinct", "distinct", "by decoded pixels"),
        row("unreadable", "unreadable", "; ".join(f"{n:,} {why}" for why, n in reasons)),
        row("blank", "blank"),
        copies("duplicates", "duplicates"),
        row("  saved in other bytes", "recoded", recoded),
        copies("  with conflicting labels", "conflicting"),
        copies("  across given splits", "leaking"),
        copies("near-duplicates", "near_duplicates", " of one picture"),
        copies("  with conflicting labels", "near_conflicting"),
        copies("  across given splits", "near_leaking"),
        copies("groups across given splits", "group_leaking"),
    ]
    if summary["group_pattern"]:
        offer = f"split.group_pattern: '{summary['group_pattern']}'"
        rows.append(row("probable people", "people", offer))
    return rows


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
