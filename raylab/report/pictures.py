"""From a results directory's image paths to thumbnails, where the images can still be reached."""

import base64
import hashlib
import io
import os
from pathlib import Path

from PIL import Image

from raylab.images.decode import DecodeError, decode_whole
from raylab.report.blocks import Picture
from raylab.storage import Folder

SIZE_PX = 96
MAX_BYTES = 20 * 2**20
QUALITY = 80


def picture(data: str, path: str, sha256: str, lines: tuple[str, ...]) -> Picture:
    """The image of the source `data` at `path`, if it is still the one that was learned from.

    Without its own content hash nothing is shown: results may come from elsewhere, and must not
    make a report embed some other file of this machine.
    """
    content = _content(data, path)
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        return Picture("", path, lines)
    return Picture(thumbnail(content), path, lines)


def thumbnail(content: bytes) -> str:
    """A data URI of at most SIZE_PX per side; empty where the bytes are no image."""
    try:
        small = decode_whole(content, SIZE_PX).image
    except DecodeError:
        return ""
    scale = SIZE_PX / max(small.size)
    size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
    small = small.resize(size, Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()


def _content(data: str, path: str) -> bytes | None:
    """The file's bytes; None where there is no such file, or it is too large to be a face."""
    base = data
    if data.lower().endswith((".csv", ".parquet")) and not os.path.isdir(data):
        base = data.rpartition("/")[0]
    try:
        if "://" in base:
            return Folder(base).read_bytes(path)
        file = Path(base, path)
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            return None
        return file.read_bytes()
    except (OSError, ValueError):
        return None
