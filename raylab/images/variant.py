"""From a source, a size and channels to the name of the variant that all trials of them share."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylab.images.source import Source

# Raise when the same bytes come to decode into other pixels: old variants are then not found.
PREPARE_VERSION = 1


def variant_id(source: Source, image_size: int, channels: int) -> str:
    """16 hex digits over the distinct contents, the size, the channels and PREPARE_VERSION."""
    contents = "\n".join(distinct(source)["sha256"].to_pylist())
    text = f"{PREPARE_VERSION}\0{image_size}\0{channels}\0{contents}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def distinct(source: Source) -> pa.Table:
    """sha256, file, pixels: one row per distinct content that can be read, ordered by sha256."""
    table = source.table
    readable = table.filter(pc.is_null(table["trouble"]))
    hashes = np.asarray(readable["sha256"].to_pylist(), dtype=np.str_)
    _, first = np.unique(hashes, return_index=True)
    return readable.select(["sha256", "file", "pixels"]).take(pa.array(first))
