"""What `raylab plan` found, as text for people."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from raylab.results.durations import about, between

MIB = 2**20


def plan_text(found: Mapping[str, Any]) -> str:
    """The plan as a few lines and a table of its first trials."""
    classes = ", ".join(f"{name} {count:,}" for name, count in found["classes"].items())
    folds = " or ".join(str(number) for number in found["folds"])
    lines = [
        f"{found['name']}: {found['trials']:,} trials, {found['done']:,} already done",
        *(f"done      {n:,} more in {place}" for place, n in found["elsewhere"].items()),
        f"axes      {', '.join(found['fields']) or 'none'}",
        *(f"note      {line}" for line in found["notes"]),
        *([f"folds     {folds} for each config and seed (split.fold)"] if folds else []),
        f"images    {found['images']:,} ({classes})",
        *(f"          {line}" for line in found["remarks"]),
        *_splits(found),
        f"epochs    {found['epochs']:,} in all",
        f"results   {found['results']}",
        *map(_variant, found["variants"]),
        *_time(found["time"]),
        *_table(found),
    ]
    return "\n".join(lines)


def _splits(found: Mapping[str, Any]) -> Iterator[str]:
    for split in found["splits"]:
        sides = ", ".join(f"{side} {split[side]:,}" for side in ("train", "val", "test"))
        yield f"split     {split['split']}: {sides}"
    if found["num_splits"] > len(found["splits"]):
        yield f"          {found['num_splits']:,} splits in all: other seeds, folds or values"


def _variant(variant: Mapping[str, Any]) -> str:
    depth = "grey" if variant["channels"] == 1 else "RGB"
    depth += " faces" if variant["crop"] == "face" else ""
    size, on_disk = variant["bytes"] / MIB, variant["disk_bytes"] / MIB
    state = "prepared" if variant["prepared"] else "to prepare"
    return (
        f"variant   {variant['variant_id']}  {variant['image_size']} px {depth}, {state}: "
        f"{size:,.1f} MiB in memory, {on_disk:,.1f} on disk"
    )


def _time(time: Mapping[str, Any]) -> Iterator[str]:
    if "unknown" in time:
        yield f"time      {time['unknown']}"
        return
    parts = [f"start {about(time['start_s'])}"]
    if time["prepare_s"]:
        parts.append(f"preparation {about(time['prepare_s'])}")
    parts.append(f"trials {about(time['trials_s'])}, {time['slots']} at a time")
    yield f"time      {between(time['seconds'])}: {', '.join(parts)}; from {time['basis']}"
    if time["asha_share"]:
        share = {key: f"{value:.0%}" for key, value in time["asha_share"].items()}
        yield (
            f"asha      {share['mid']} of the epochs will run [{share['low']} to {share['high']}]"
            ", if the order of the trials says nothing of their worth"
        )
    if time["usd"]:
        usd = time["usd"]
        yield f"cost      {usd['mid']:,.2f} USD [{usd['low']:,.2f} to {usd['high']:,.2f}]"
    ends = datetime.fromisoformat(time["ends_at"])
    yield f"ends      {ends:%Y-%m-%d %H:%M} if it starts now"
    for remark in time["remarks"]:
        yield f"          {remark}"


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    """The first trials by what differs, in columns."""
    rows = found["rows"]
    if not rows:
        return
    names = [name for name in rows[0] if name != "done_in"]
    cells = [names] + [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    marks = ["", *(f"done in {row['done_in']}" if row["done_in"] else "" for row in rows)]
    for line, mark in zip(cells, marks, strict=True):
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        yield "  ".join([*padded, mark]).rstrip()
    hidden = found["trials"] - len(rows)
    if hidden:
        yield f"… {hidden:,} more of {found['trials']:,} trials"


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
