"""What every measurement is given: where it may write, how long it may take, whom it tells."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raylab.sweep.cluster import Capacity


def to_stderr(text: str) -> None:
    """One line of the story."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Stage:
    """One run of `raylab bench`."""

    folder: Path
    """Scratch, deleted at the end; also the cache of prepared images."""
    quick: bool
    num_cpus: int
    capacity: Capacity | None = None
    """Of the connected Ray; None for measurements that run without one, or start their own."""
    note: Callable[[str], None] = to_stderr

    @property
    def ray(self) -> Capacity:
        """The connected Ray; a measurement that asks for it must be declared to need it."""
        assert self.capacity is not None
        return self.capacity

    def place(self, name: str) -> Path:
        """A folder for one purpose."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        return place


class Clock:
    """Holds how long a `with clock():` block took, in seconds, once for every block."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - began)
