"""Preparation against what the cores could decode: Ray's whole way beside one thread's rate."""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from raylab.bench.photos import LARGE_PX, SMALL_PX, write_photos
from raylab.bench.row import Row, at_least, at_most, compared, judged
from raylab.bench.stage import Stage
from raylab.images.decode import Pixels, decode
from raylab.images.prepare import prepare
from raylab.images.source import scan
from raylab.images.variant import Format
from raylab.storage import Folder

SIZE_PX = 64
EFFICIENCY, DRAFT_SPEED_UP, DRAFT_ERROR = at_least(0.8), at_least(3), at_most(1)
NUMS = {True: {"small": 2000, "large": 40}, False: {"small": 10_000, "large": 500}}
SAMPLE_S = 1.5
DECODE_RUNS = 3


def measure(stage: Stage) -> list[Row]:
    """End to end for small and for large JPEGs, then reduced-scale against full decoding."""
    rows = []
    for kind, size in (("small", SMALL_PX), ("large", LARGE_PX)):
        num = NUMS[stage.quick][kind]
        stage.note(f"prepare: {num} {kind} JPEGs, generating")
        folder = stage.place(f"photos-{kind}")
        paths = write_photos(folder, num, size)
        stage.note(f"prepare: {num} {kind} JPEGs")
        rows.append(efficiency(stage, kind, folder, paths))
    return [*rows, *reduced_scale(paths[:5])]


def efficiency(stage: Stage, kind: str, folder: Path, paths: Sequence[Path]) -> Row:
    """Images per second of scan and preparation over one thread's decoding times the cores."""
    before = decode_rate(paths)
    began = time.perf_counter()
    source = scan(str(folder))
    scanned_s = time.perf_counter() - began
    cache = Folder(stage.place(f"prepared-{kind}"))
    prepare(source, Format(SIZE_PX, 3), cache, lambda done, total: None)
    wall_s = time.perf_counter() - began
    after = decode_rate(paths)
    how = (
        f"{len(paths):,} files at {SIZE_PX} px, scan ({scanned_s:.1f} s) and prepare on the "
        f"connected Ray ({wall_s - scanned_s:.1f} s); baseline: decode + resize of bytes in memory "
        f"in one thread x {stage.num_cpus} CPUs, before and after; ratio = images/s over baseline"
    )
    baselines = [rate * stage.num_cpus for rate in (before, after)]
    name = f"prepare {kind} JPEGs, scan included"
    return compared(name, [len(paths) / wall_s], baselines, "images/s", EFFICIENCY, how)


def decode_rate(paths: Sequence[Path]) -> float:
    """Images per second that one thread decodes and resizes, the bytes being in memory."""
    contents = [path.read_bytes() for path in paths[:50]]
    decode(contents[0], SIZE_PX, 3)
    num, began = 0, time.perf_counter()
    while time.perf_counter() - began < SAMPLE_S:
        decode(contents[num % len(contents)], SIZE_PX, 3)
        num += 1
    return num / (time.perf_counter() - began)


def reduced_scale(paths: Sequence[Path]) -> list[Row]:
    """How much faster the reduced-scale decoding of large JPEGs is, and how far off it comes."""
    fast_s, full_s, errors = [], [], []
    for path in paths:
        content = path.read_bytes()
        fast, seconds = quickest(lambda data: decode(data, SIZE_PX, 3), content)
        fast_s.append(seconds)
        full, seconds = quickest(lambda data: decode_full(data, SIZE_PX), content)
        full_s.append(seconds)
        errors.append(float(np.abs(fast.astype(np.int16) - full.astype(np.int16)).mean()))
    how = f"{len(paths)} JPEGs of 12 megapixels to {SIZE_PX} px, quickest of {DECODE_RUNS} each; "
    how += "ratio = full / reduced"
    name = "reduced-scale decoding, large JPEGs"
    speed = compared(name, fast_s, full_s, "s", DRAFT_SPEED_UP, how, speed_up=True)
    against = "mean absolute difference to a full decode with the same antialiased filter"
    return [speed, judged(f"{name}, error", median(errors), "grey levels", DRAFT_ERROR, against)]


def quickest(decoder: Callable[[bytes], Pixels], content: bytes) -> tuple[Pixels, float]:
    """Its pixels, and the seconds of the quickest of a few runs: disturbance only ever adds."""
    seconds = []
    for _ in range(DECODE_RUNS):
        began = time.perf_counter()
        pixels = decoder(content)
        seconds.append(time.perf_counter() - began)
    return pixels, min(seconds)


def decode_full(content: bytes, image_size: int) -> Pixels:
    """uint8 (S, S, 3): every pixel decoded, the central square resized with antialiasing."""
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    small = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(small, dtype=np.uint8)
