"""From the bytes of one image file to the square that trials of a format see: the whole image, or
its face cut out.

Legend: S = image_size, C = channels.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from PIL import Image

from raylab.images.boxes import Box
from raylab.images.decode import DecodeError, Pixels, decode_info, decode_whole, resized_square
from raylab.images.faces import MISSING, Face, find_face, is_installed
from raylab.images.source import Source
from raylab.images.variant import Format

MARGIN_FRAC = 0.1
"""Of the face's longer side, on each side of it: room for random shifts and rotations."""

Found = Literal["found", "given", "none"]
"""Whether the face was found by the detector, given by the source, or is nowhere."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`pixels`: uint8 (S, S, C), 0..255; `width`, `height`: px of the upright original."""

    pixels: Pixels
    width: int
    height: int
    face: Found | None
    """None where none was asked for; `none`: the image was kept whole."""


def look(data: bytes, form: Format, box: Box | None = None) -> Seen:
    """The image as trials of the format see it; a box is taken in place of the detector.

    Raises DecodeError for the images for which `decode` does, whatever the crop:
    the variants of a source hold the same ones.
    """
    whole = decode_info(data, form.image_size, form.channels, form.interpolation)
    if form.crop == "none":
        return Seen(whole.pixels, whole.width, whole.height, None)
    try:
        image = decode_whole(data).image
    except DecodeError:  # damaged where the reduced decoding did not look
        return Seen(whole.pixels, whole.width, whole.height, "none")
    face = find_face(image) if box is None else face_in(box, image.size)
    if face is None:
        return Seen(whole.pixels, whole.width, whole.height, "none")
    square = cut_out(image, face).convert("L" if form.channels == 1 else "RGB")
    small = np.asarray(resized_square(square, form.image_size, form.interpolation), dtype=np.uint8)
    pixels = small.reshape(form.image_size, form.image_size, form.channels)
    return Seen(pixels, whole.width, whole.height, "found" if box is None else "given")


def face_in(box: Box, size: tuple[int, int]) -> Face | None:
    """What of the box lies in an image of that width and height; None where nothing does."""
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(size[0], round(box[0] + box[2])), min(size[1], round(box[1] + box[3]))
    if left >= right or top >= bottom:
        return None
    return Face(left, top, right - left, bottom - top)


def cut_out(image: Image.Image, face: Face) -> Image.Image:
    """The square around the face with its margin, turned until the eyes are level.

    What lies outside of the image repeats the image's edge.
    """
    wanted = round(max(face.width, face.height) * (1 + 2 * MARGIN_FRAC))
    side = min(wanted, 2 * min(image.size))  # a box along a panorama would fill the memory
    middle = face.left + face.width / 2, face.top + face.height / 2
    if not face.tilt_deg:
        return _square_around(image, middle, side)
    reach = ceil(1.5 * side)  # a turned square needs sqrt(2) of its side
    turned = _square_around(image, middle, reach).rotate(face.tilt_deg, Image.Resampling.BICUBIC)
    return _square_around(turned, (reach / 2, reach / 2), side)


def _square_around(image: Image.Image, middle: tuple[float, float], side: int) -> Image.Image:
    left, top = (round(place - side / 2) for place in middle)
    columns = np.clip(np.arange(left, left + side), 0, image.width - 1)
    rows = np.clip(np.arange(top, top + side), 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])


def crop_problem(source: Source) -> str | None:
    """Why faces cannot be cut out of this source here, in one sentence; None where they can."""
    readable = source.table.filter(source.table["trouble"].is_null())
    boxes: dict[str, Box | None] = {}
    for path, sha256, box in zip(
        *(readable[name].to_pylist() for name in ("path", "sha256", "box")), strict=True
    ):
        if boxes.setdefault(sha256, box) != box:
            return (
                f"{path} has two boxes in the manifest, and an image has one face here; "
                "cut it into a file for each"
            )
    return MISSING if None in boxes.values() and not is_installed() else None
