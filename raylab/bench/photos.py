"""Generated JPEGs, small as cropped faces and large as a camera's, each with bytes of its own."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from raylab.images.toy import EMOTIONS, draw_face

SMALL_PX = (178, 218)
"""Width and height of a cropped face, as in CelebA."""
LARGE_PX = (4000, 3000)
"""12 megapixels."""
NUM_DRAWN = 14
GRAIN_PX = 250
QUALITY = 90


def write_photos(folder: Path, num: int, size: tuple[int, int]) -> list[Path]:
    """`num` JPEGs of that size in a folder per emotion.

    A few are drawn; the others are these with a comment of their own in the file, so that no two
    have the same content and each costs a full decode.
    """
    drawn = [encoded(i, size) for i in range(min(num, NUM_DRAWN))]
    paths = []
    for i in range(num):
        place = folder / EMOTIONS[i % len(EMOTIONS)]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{i:06d}.jpg"
        path.write_bytes(with_comment(drawn[i % len(drawn)], f"{i:010d}"))
        paths.append(path)
    return paths


def encoded(number: int, size: tuple[int, int]) -> bytes:
    """One face as a JPEG with a sensor's grain, without which decoding would be too easy."""
    rng = np.random.default_rng(number)
    face = Image.fromarray(draw_face(EMOTIONS[number % len(EMOTIONS)], rng))
    pixels = np.asarray(face.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    tile = rng.normal(0, 6, (GRAIN_PX, GRAIN_PX, 3)).astype(np.int16)
    rows, columns = -(-size[1] // GRAIN_PX), -(-size[0] // GRAIN_PX)
    grain = np.tile(tile, (rows, columns, 1))[: size[1], : size[0]]
    buffer = io.BytesIO()
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture with a comment segment after the start marker."""
    comment = text.encode()
    length = (len(comment) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff\xfe" + length + comment + jpeg[2:]
