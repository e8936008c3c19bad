"""A small finished sweep over faces that come with train, val and test: for `final` and `rerun`."""

import csv
from pathlib import Path

from raylab.config.grid import read_grid
from raylab.images.toy import write_folder
from raylab.sweep.runner import Options, Outcomes, run_sweep

GRID = """
name: finished
data: faces.csv
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32, amp: none}
axes: {lr: [1.0e-2, 1.0e-3]}
seeds: [0, 1]
"""


def write_faces(place: Path, *, poison: bool = False) -> list[dict[str, str]]:
    """faces.csv: 3 of 5 images train, 1 validates, 1 tests; poisoned, the test labels are rotated
    among the test images.
    """
    if not (place / "faces").exists():
        write_folder(place / "faces", num=140, wrong=0.0, seed=0)
    paths = sorted(path.relative_to(place) for path in (place / "faces").rglob("*.png"))
    rows = [
        {
            "path": str(p),
            "label": p.parent.name,
            "split": ("train", "val", "test")[max(0, i % 5 - 2)],
        }
        for i, p in enumerate(paths)
    ]
    if poison:
        locked = [row for row in rows if row["split"] == "test"]
        labels = [row["label"] for row in locked]
        for row, label in zip(locked, labels[5:] + labels[:5], strict=True):
            row["label"] = label
    with (place / "faces.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def run(place: Path) -> Outcomes:
    """Runs the sweep into place/results."""
    (place / "grid.yaml").write_text(GRID)
    return run_sweep(read_grid(place / "grid.yaml"), Options(str(place / "results"), quiet=True))
