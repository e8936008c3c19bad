"""From a few images of a source to what preparing all of them will cost; no Ray."""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raylab.images.crop import look
from raylab.images.decode import DecodeError
from raylab.images.found import read_content
from raylab.images.source import Source
from raylab.images.variant import Format, distinct

NUM_SAMPLED = 32


@dataclass(frozen=True)
class Sampled:
    """What one image of a variant costs, the mean over a sample."""

    seconds: float
    """To read and decode it, in one thread."""
    bytes_on_disk: float
    """As a prepared part keeps it, compressed."""


def sample(source: Source, form: Format) -> Sampled | None:
    """Prepares NUM_SAMPLED images of the source and throws them away; None if none can be read."""
    table = distinct(source)
    rows = np.unique(np.linspace(0, table.num_rows - 1, NUM_SAMPLED).astype(int))
    squares: list[bytes] = []
    started_s = time.perf_counter()
    for image in table.take(pa.array(rows)).to_pylist():
        try:
            content = image["pixels"] if image["file"] is None else read_content(image["file"])
            squares.append(look(content, form, image["box"]).pixels.tobytes())
        except (DecodeError, OSError):
            continue
    seconds = time.perf_counter() - started_s
    if not squares:
        return None
    compressed = pa.Codec("zstd").compress(b"".join(squares))
    return Sampled(seconds / len(rows), compressed.size / len(squares))
