"""From a diagnosis and images.parquet to suspects and duplicates, as thumbnails."""

import pandas as pd

from raylab.report.blocks import Block, Column, Gallery, Note, Picture, Section, Table
from raylab.report.material import Sweep
from raylab.report.pictures import picture
from raylab.report.wording import count, percent

MAX_PICTURES = 24
MAX_COPIES = 12
WRONG = "Labels that are probably wrong"
DISPUTED = "Images whose label the models dispute (whether it is wrong cannot be told)"


def images(sweep: Sweep) -> Section:
    """Images whose label the models dispute, and images that are there more than once."""
    blocks: list[Block] = []
    if sweep.evidence is not None and not sweep.evidence.images.empty:
        table = sweep.evidence.images
        blocks += [*_suspects(sweep, table), *_duplicates(sweep, table), *_left_out(table)]
    return Section("Images", blocks)


def _suspects(sweep: Sweep, table: pd.DataFrame) -> list[Block]:
    diagnosis = sweep.diagnosis
    if diagnosis is None or diagnosis.suspects is None or diagnosis.quality is None:
        return [Note("The labels could not be judged (see the findings).")]
    suspects = diagnosis.suspects
    if suspects.empty:
        return [Note("No label is more likely wrong than right.")]
    hashes = table.drop_duplicates("image_id").set_index("image_id")["sha256"].to_dict()
    title = WRONG if diagnosis.quality.is_clear else DISPUTED
    pictures = []
    for row in suspects.head(MAX_PICTURES).to_dict("records"):
        lines = (
            str(row["label"]),
            f"→ {row['suggested_label']}",
            percent(row["wrong_probability"], 0),
        )
        sha256 = str(hashes.get(row["image_id"], ""))
        pictures.append(picture(_data(sweep), str(row["path"]), sha256, lines))
    if not any(image.uri for image in pictures):
        return [_listed(title, pictures, f"{len(suspects):,}{_by_whom(sweep)}")]
    shown = f"The {len(pictures)} most suspicious of {len(suspects):,}"
    note = f"{shown}{_by_whom(sweep)}; raylab diagnose writes them all."
    return [Gallery(title, pictures, note)]


def _by_whom(sweep: Sweep) -> str:
    """How good the models are whose opinion this is: weak ones suspect what they cannot see."""
    opinion = None if sweep.evidence is None else sweep.evidence.opinion
    if opinion is None:
        return ""
    return f", to models that agree with {percent(opinion.accuracy, 0)} of the labels"


def _listed(title: str, pictures: list[Picture], of: str) -> Table:
    """By name, where not one can be shown."""
    rows = [[image.path, *image.lines] for image in pictures]
    columns = [Column("image"), Column("labelled"), Column("probably"), Column("how sure", True)]
    note = (
        f"The {len(pictures)} most suspicious of {of}, by name: the images themselves were not "
        "where the grid says, or are not those that were learned from."
    )
    return Table(title, columns, rows, notes=[note])


def _duplicates(sweep: Sweep, table: pd.DataFrame) -> list[Block]:
    """Byte-for-byte copies, those under different labels first."""
    copies = table[table["sha256"].duplicated(keep=False)]
    if copies.empty:
        return [Note("No two images are byte for byte the same (near-copies: raylab audit).")]
    groups = copies.groupby("sha256", sort=False).agg(
        path=("path", "first"),
        label=("label", lambda labels: " / ".join(sorted(set(map(str, labels))))),
        num=("path", "size"),
        num_labels=("label", "nunique"),
    )
    groups = groups.sort_values(["num_labels", "num"], ascending=False, kind="stable")
    pictures = [
        picture(_data(sweep), str(row.path), str(row.Index), (str(row.label), f"{row.num} copies"))
        for row in groups.head(MAX_COPIES).itertuples()
    ]
    num_conflicts = int((groups["num_labels"] > 1).sum())
    note = (
        f"{len(copies):,} images are copies, in {count(len(groups), 'group')}; "
        f"{num_conflicts:,} of these carry different labels."
    )
    return [Gallery("Copies", pictures, note)]


def _left_out(table: pd.DataFrame) -> list[Block]:
    if "status" not in table:
        return []
    reasons = table.loc[table["status"] != "ok", "status"].value_counts()
    if reasons.empty:
        return []
    listed = "; ".join(f"{num:,} {reason}" for reason, num in reasons.head(5).items())
    return [Note(f"{reasons.sum():,} of {len(table):,} files were left out: {listed}.")]


def _data(sweep: Sweep) -> str:
    return str(sweep.grid.get("data", ""))
