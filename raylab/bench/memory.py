"""Trials side by side and the images they share: proportional set sizes, from Linux's /proc."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data

from raylab.bench.row import Row, at_most
from raylab.bench.stage import Stage
from raylab.sweep.shards import pixel_table, resident_pixels

ACTORS = (1, 2, 4)
NUM_IMAGES, SIZE_PX = 8000, 64
STORE = "/plasma"
"""Part of the name of the object store's mapping in /dev/shm or /tmp."""
SHARED = at_most(1.1)
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Held:
    """Proportional set sizes of one process in bytes: its share of the object store, the rest."""

    store: int
    private: int


def measure(stage: Stage) -> list[Row]:
    """k processes that each read every image; together they must hold them once."""
    if not Path("/proc/self/smaps").exists():
        return [Row("images held by k trials", None, "MiB", how="needs Linux's /proc; left out")]
    stage.note(f"memory: {NUM_IMAGES:,} images read by {', '.join(map(str, ACTORS))} processes")
    pixels = np.random.default_rng(0).integers(
        0, 256, (NUM_IMAGES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8
    )
    actor: Any = ray.remote(num_cpus=0)(Reader)
    readers = [actor.remote() for _ in range(max(ACTORS))]
    before = sum_of(ray.get([reader.held.remote() for reader in readers]))
    own = held_here()
    dataset = ray.data.from_arrow(pixel_table(pixels))
    held = {}
    for k in ACTORS:
        key = f"{SIZE_PX}/{k}"
        ray.get([reader.read.remote(dataset, key) for reader in readers[:k]])
        held[k] = sum_of(ray.get([reader.held.remote() for reader in readers[:k]]))
        held[k] = Held(held[k].store + held_here().store - own.store, held[k].private)
    for reader in readers:
        ray.kill(reader)
    return rows_of(held, before.private / len(readers), pixels.nbytes)


class Reader:
    """A trial's process as far as its images go: the same call, every pixel read."""

    def read(self, dataset: Any, key: str) -> int:
        """Map the variant as a trial does and touch all of it."""
        self.pixels = resident_pixels(dataset, key, SIZE_PX, 3)
        return int(self.pixels.sum())

    def held(self) -> Held:
        """What this process holds now."""
        return held_here()


def held_here() -> Held:
    """What this process holds now."""
    return parse_smaps(Path("/proc/self/smaps").read_text())


def parse_smaps(text: str) -> Held:
    """Sums `Pss:` of the object store's mappings and of all others."""
    store = private = 0
    is_store = False
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.split(" ", 1)[0]:  # `7f12-7f34 rw-s 0000 00:1a 12  /dev/shm/plasma…`
            is_store = STORE in line
        elif name == "Pss":
            num_bytes = int(rest.split()[0]) * 1024
            store, private = store + num_bytes * is_store, private + num_bytes * (not is_store)
    return Held(store, private)


def sum_of(held: Iterable[Held]) -> Held:
    """Of several processes."""
    parts = list(held)
    return Held(sum(part.store for part in parts), sum(part.private for part in parts))


def rows_of(held: dict[int, Held], idle: float, image_bytes: int) -> list[Row]:
    """Per k: the shared pages of all k together over the size of the images."""
    rows = []
    for k, together in held.items():
        own = together.private - k * idle
        ratio = together.store / image_bytes
        how = (
            f"proportional set size of the object store's mapping in {k} processes that read "
            f"every image, and in the driver, which wrote them; beside it the processes grew by "
            f"{own / k / MIB:.0f} MiB each; ratio = held / size of the images"
        )
        is_shared = SHARED.holds(ratio) and own / k < image_bytes / 2
        rows.append(
            Row(
                f"images held by {k} trial{'s' if k > 1 else ''}",
                together.store / MIB,
                "MiB",
                image_bytes / MIB,
                ratio,
                SHARED,
                "ok" if is_shared else "missed",
                how,
            )
        )
    return rows
