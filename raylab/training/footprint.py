"""What a trial takes of a GPU; drivers, without torch, read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """peak_bytes: of one process with its CUDA context; busy: 0..1, kernel time over wall time."""

    peak_bytes: int
    busy: float
    gpu_bytes: int
    """Memory of the whole GPU."""
