"""From a trial's `amp` and a device to the autocast type; `auto` is measured, never guessed."""

import functools
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from raylab.config.trial import TrialConfig

# A half precision must pay for its lost digits; what it gains is about 2x where hardware has it
# and less than 1x where it is emulated, so noise does not turn the choice.
MIN_SPEED_UP = 1.25
PROBE_ROUNDS = 9
CHANNELS, SIDE, BATCH = 64, 16, 32

AMP_DTYPES = (None, torch.bfloat16, torch.float16)
"""What `resolve_amp` may give."""


def resolve_amp(config: TrialConfig, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for plain float32."""
    if config.amp == "none":
        return None
    if config.amp == "auto":
        return fastest_dtype(device)
    return torch.bfloat16 if config.amp == "bf16" else torch.float16


@functools.cache
def fastest_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16, on a GPU without it float16, or None: which trains a convolution fastest.

    Measured once per process (0.2 s on a CPU), the sides taking turns.
    """
    candidates = [torch.bfloat16] + ([torch.float16] if device.type == "cuda" else [])
    for dtype in candidates:
        plain, half = step_seconds(device, None), step_seconds(device, dtype)
        pairs = [(plain(), half()) for _ in range(PROBE_ROUNDS)]
        # The quickest round of each: what disturbs a busy machine only ever adds.
        if min(p for p, _ in pairs) >= MIN_SPEED_UP * min(h for _, h in pairs):
            return dtype
    return None


def step_seconds(device: torch.device, dtype: torch.dtype | None) -> Callable[[], float]:
    """A function that runs one forward and backward of a typical convolution and times it."""
    shape = (BATCH, CHANNELS, SIDE, SIDE)
    images = torch.ones(shape, device=device).contiguous(memory_format=torch.channels_last)
    weights = torch.ones((CHANNELS, CHANNELS, 3, 3), device=device, requires_grad=True)

    def run() -> float:
        began = _now(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            out = functional.conv2d(images, weights, padding=1)
        torch.autograd.backward(out.float().sum())
        return _now(device) - began

    return run


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def name_of(dtype: torch.dtype | None) -> str:
    """`bfloat16`, `float16` or `float32`, as a record names it."""
    return str(dtype or torch.float32).removeprefix("torch.")
