"""From the bytes of one image to what an audit knows of it alone, its content and its picture."""

import hashlib
from dataclasses import dataclass

from PIL import ImageStat

from raylab.images.decode import DecodeError, Pixels, decode_whole
from raylab.images.near import SIDE

BLANK_STD = 3.0
"""Grey levels (0..255). Below, an image shows nothing; the darkest real face of FER2013 has 9."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """One content. Where `status` is not ok, the rest is empty."""

    status: str
    """`ok`, or why it cannot be decoded."""
    pixel_sha256: str | None = None
    """Over size and RGB pixels: the same for a PNG and a BMP, grey or RGB, of one picture."""
    width: int = 0
    height: int = 0
    mode: str | None = None
    """PIL's name: L is grey, RGB, RGBA, P, CMYK …"""
    blank: bool = False
    face: Pixels | None = None
    """uint8 (SIDE, SIDE): the central square in grey."""


def inspect(content: bytes) -> Inspected:
    """Everything that can be said of one image by itself; never raises for a bad one."""
    try:
        whole = decode_whole(content)
    except DecodeError as error:
        return Inspected(str(error))
    width, height = whole.image.size
    pixels = whole.image.tobytes()
    digest = hashlib.sha256(f"{width}x{height}\0".encode() + pixels).hexdigest()
    # All of the picture, not its central square: a band at the edge is something.
    blank = max(ImageStat.Stat(whole.image).stddev) < BLANK_STD
    return Inspected("ok", digest, width, height, whole.mode, blank, whole.square(SIDE))
