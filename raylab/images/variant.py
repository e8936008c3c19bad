"""From a source and a format to the name of the variant that all trials of them share."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylab.config.trial import Crop, Filter, TrialConfig
from raylab.images.decode import missing_codecs
from raylab.images.source import Source

# Raise when the same bytes come to decode into other pixels: old variants are then not found.
PREPARE_VERSION = 2
# Raise when the same image comes to give another face.
CROP_VERSION = 1


@dataclass(frozen=True, order=True, slots=True)
class Format:
    """In which form a trial sees its images, as far as they are prepared beforehand."""

    image_size: int
    """px."""
    channels: int
    crop: Crop = "none"
    interpolation: Filter = "bicubic"

    @classmethod
    def of(cls, config: TrialConfig) -> "Format":
        """The format that the config asks for."""
        return cls(config.image_size, config.channels, config.crop, config.filter)

    @property
    def num_bytes(self) -> int:
        """Of an image's pixels."""
        return self.image_size**2 * self.channels

    def __str__(self) -> str:
        """`64 px RGB`, `48 px grey faces`."""
        colour = "grey" if self.channels == 1 else "RGB"
        faces = " faces" if self.crop == "face" else ""
        by = "" if self.interpolation == "bicubic" else f" {self.interpolation}"
        return f"{self.image_size} px {colour}{faces}{by}"


def variant_id(source: Source, form: Format) -> str:
    """16 hex digits over the distinct contents, the format and PREPARE_VERSION; also over a filter
    other than bicubic, where faces are cut out over their boxes and CROP_VERSION, and over the
    codecs that PIL lacks.
    """
    images = distinct(source)
    contents = "\n".join(images["sha256"].to_pylist())
    text = f"{PREPARE_VERSION}\0{form.image_size}\0{form.channels}\0{contents}"
    if form.interpolation != "bicubic":
        text += f"\0{form.interpolation}"
    if form.crop != "none":
        text += f"\0{form.crop}\0{CROP_VERSION}\0{images['box'].to_pylist()}"
    if missing := missing_codecs():
        text += f"\0without {' '.join(missing)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def distinct(source: Source) -> pa.Table:
    """sha256, file, pixels, box: a row per distinct content that can be read, ordered by sha256."""
    table = source.table
    readable = table.filter(pc.is_null(table["trouble"]))
    hashes = np.asarray(readable["sha256"].to_pylist(), dtype=np.str_)
    _, first = np.unique(hashes, return_index=True)
    return readable.select(["sha256", "file", "pixels", "box"]).take(pa.array(first))
