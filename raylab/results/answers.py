"""From a model's probabilities for images to text: a table for eyes, csv or json for programs.

N = images, K = classes.
"""

import io
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

TOP_OF_A_TABLE = 3
DIGITS = 6


def render_answers(
    files: Sequence[str],
    classes: Sequence[str],
    probs: npt.NDArray[np.float32],
    format: Literal["table", "csv", "json"] = "table",
    top: int | None = None,
) -> str:
    """No newline at its end. probs: (N, K), 0..1.

    csv: a row per image with `p_<class>` of all classes; with `top`, a row per image and rank.
    json: an object per image, its probabilities falling. A table shows the first three.
    """
    order = np.argsort(-probs, axis=1, kind="stable")
    if format == "json":
        return _json(files, classes, probs, order[:, :top])
    if format == "csv" and top is None:
        return _csv(_wide(files, classes, probs, order))
    if format == "csv":
        return _csv(_long(files, classes, probs, order[:, :top]))
    return _table(files, classes, probs, order[:, : top or TOP_OF_A_TABLE])


def _json(
    files: Sequence[str],
    classes: Sequence[str],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
) -> str:
    rows = [
        {
            "image": file,
            "label": classes[ranked[0]],
            "probabilities": {classes[k]: round(float(values[k]), DIGITS) for k in ranked},
        }
        for file, values, ranked in zip(files, probs, order.tolist(), strict=True)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2)


def _wide(
    files: Sequence[str],
    classes: Sequence[str],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
) -> pd.DataFrame:
    columns = {"image": list(files), "label": [classes[k] for k in order[:, 0].tolist()]}
    shares = {f"p_{name}": probs[:, k] for k, name in enumerate(classes)}
    return pd.DataFrame(columns | shares)


def _long(
    files: Sequence[str],
    classes: Sequence[str],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
) -> pd.DataFrame:
    num_ranks = order.shape[1]
    return pd.DataFrame(
        {
            "image": np.repeat(np.array(files, dtype=object), num_ranks),
            "rank": np.tile(np.arange(1, num_ranks + 1), len(files)),
            "label": [classes[k] for k in order.ravel().tolist()],
            "probability": np.take_along_axis(probs, order, 1).ravel(),
        }
    )


def _csv(frame: pd.DataFrame) -> str:
    sink = io.StringIO()
    frame.to_csv(sink, index=False, float_format=f"%.{DIGITS}f")
    return sink.getvalue().rstrip("\n")


def _table(
    files: Sequence[str],
    classes: Sequence[str],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
) -> str:
    """One line per image: its name, then class and probability, as often as there are ranks."""
    rows = [
        [file, *(f"{classes[k]} {values[k]:.3f}" for k in ranked)]
        for file, values, ranked in zip(files, probs, order.tolist(), strict=True)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
