"""A variant that memory cannot hold, as a file on this machine's disk that its processes map.

The system reads the pages that batches touch, and drops them when memory is short: training
streams from disk in any order, and sees the pixels that it would see in memory.
N = readable distinct images, S = image_size, C = channels.
"""

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from raylab.images.prepare import Variant
from raylab.storage import UNFINISHED_SUFFIX, appearing_whole


def mapped_pixels(variant: Variant) -> npt.NDArray[np.uint8]:
    """uint8 (N, S, S, C), read-only, in the order of `Variant.table()`; holds no memory itself.

    The first process of the machine writes the file, part by part; the others wait for it.
    CannotWrite where the disk has no room for it, CannotFinish where a part is damaged.
    """
    path = _path_of(variant)
    shape = (variant.num_ok, variant.image_size, variant.image_size, variant.channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists() or path.stat().st_size != math.prod(shape):  # of another Pillow's
            unfinished = path.with_suffix(UNFINISHED_SUFFIX)
            with appearing_whole(str(path), str(unfinished)):
                _write(variant, unfinished, math.prod(shape))
            pa.default_memory_pool().release_unused()  # it would keep what reading parts took
    return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)


def _path_of(variant: Variant) -> Path:
    """Beside the variant's parts where those are on this machine, else among temporary files."""
    if variant.folder.is_local:
        return Path(variant.folder.path_of("pixels.bin"))
    folder = Path(tempfile.gettempdir()) / f"raylab-{os.getuid()}"
    return folder / f"{variant.variant_id}.bin"


def _write(variant: Variant, path: Path, size: int) -> None:
    """`size`: in bytes."""
    with open(path, "wb") as file:
        free = shutil.disk_usage(path.parent).free
        if free < size:  # else the disk is full for all others until this ends
            raise OSError(errno.ENOSPC, f"{size:,} bytes are needed and {free:,} are free")
        for name in variant.parts:
            part = variant.read_part(name, ["pixels", "status"])
            ok = part.filter(pc.equal(part["status"], "ok"))["pixels"]
            for pixels in ok.chunks:
                width = pixels.type.byte_width
                start = pixels.offset * width
                file.write(pixels.buffers()[1].slice(start, len(pixels) * width))
        file.flush()
        os.fsync(file.fileno())
        if file.tell() != size:
            raise OSError(f"{path}: {file.tell()} bytes written, {size} expected")
