"""From a trial's `amp` and a device to the autocast type; `auto` is measured, never guessed."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch

from raylab.config.trial import TrialConfig
from raylab.training.layers import set_train_mode
from raylab.training.memory import is_out_of_memory
from raylab.training.model import build_model
from raylab.training.step import MIN_MICRO_BATCH

# A half precision must pay for its lost digits; what it gains is about 2x where hardware has it
# and less than 1x where it is emulated, so noise does not turn the choice.
MIN_SPEED_UP = 1.25
MAX_ROUNDS, ROUNDS_S = 9, 0.5
CPU_BATCH = 8
"""Enough to tell on a CPU; a GPU idles between the kernels of a batch smaller than the trial's."""
NUM_CLASSES = 8

AMP_DTYPES = (None, torch.bfloat16, torch.float16)
"""What `resolve_amp` may give."""


def resolve_amp(config: TrialConfig, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for plain float32."""
    if config.amp == "none":
        return None
    if config.amp == "auto":
        return fastest_dtype(device, _what_costs(config, device))
    return torch.bfloat16 if config.amp == "bf16" else torch.float16


def _what_costs(config: TrialConfig, device: torch.device) -> TrialConfig:
    """The part of a config that decides how long a step takes."""
    batch = config.batch_size if device.type == "cuda" else min(config.batch_size, CPU_BATCH)
    return TrialConfig(
        model=config.model,
        image_size=config.image_size,
        channels=config.channels,
        train_layers=config.train_layers,
        freeze_bn=config.freeze_bn,
        batch_size=max(batch, MIN_MICRO_BATCH),
    )


@cache
def fastest_dtype(device: torch.device, config: TrialConfig) -> torch.dtype | None:
    """bfloat16, on a GPU without it float16, or None: in which this model trains fastest.

    It depends on the model as much as on the hardware: where two CPU cores halve the time of plain
    convolutions, they lose with depthwise ones. Measured once per process and model, the sides
    taking turns; under a second where a step of 8 images takes less than 0.1 s. Where the whole
    batch fits in none of them, training will cut it, and as much as fits is timed.
    """
    chosen = _fastest(device, config)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # float32 took more than the trial will, and others share the GPU
    return chosen


def _fastest(device: torch.device, config: TrialConfig) -> torch.dtype | None:
    with torch.random.fork_rng(devices=[]):  # a GPU's are seeded anew in every epoch
        step, num_images = step_seconds(device, config), config.batch_size
        while num_images >= MIN_MICRO_BATCH:
            for dtype in half_precisions(device):
                plain, half = _quickest_in_turns(
                    partial(step, None, num_images), partial(step, dtype, num_images)
                )
                if math.isfinite(half) and plain >= MIN_SPEED_UP * half:
                    return dtype
            if math.isfinite(plain):
                return None
            num_images //= 2
    return None


def half_precisions(device: torch.device) -> tuple[torch.dtype, ...]:
    """Those in which the device may train; a GPU before Ampere only emulates bfloat16, and has no
    convolutions in it.
    """
    if device.type != "cuda":
        return (torch.bfloat16,)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, torch.float16
    return (torch.float16,)


def _quickest_in_turns(
    first: Callable[[], float], second: Callable[[], float]
) -> tuple[float, float]:
    """The quickest round of each: what disturbs a busy machine only ever adds."""
    first(), second()  # the first step of each also chooses its kernels
    began = time.perf_counter()
    rounds: list[tuple[float, float]] = []
    while not rounds or (len(rounds) < MAX_ROUNDS and time.perf_counter() - began < ROUNDS_S):
        rounds.append((first(), second()))
    return min(a for a, _ in rounds), min(b for _, b in rounds)


def step_seconds(
    device: torch.device, config: TrialConfig
) -> Callable[[torch.dtype | None, int], float]:
    """A function that times one forward and backward of the config's model in a precision, of so
    many images of its batch.

    It gives inf where the device has too little memory, or cannot train in that precision.
    """
    model = build_model(config, NUM_CLASSES).to(device).to(memory_format=torch.channels_last)
    set_train_mode(model)
    shape = (config.batch_size, config.channels, config.image_size, config.image_size)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)

    def run(dtype: torch.dtype | None, num_images: int) -> float:
        began = _now(device)
        try:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = model(images[:num_images])
            torch.autograd.backward(logits.float().sum())
        except RuntimeError as error:
            if dtype is None and not is_out_of_memory(error):
                raise  # float32 has to work
            return math.inf
        return _now(device) - began

    return run


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def name_of(dtype: torch.dtype | None) -> str:
    """`bfloat16`, `float16` or `float32`, as a record names it."""
    return str(dtype or torch.float32).removeprefix("torch.")


@contextmanager
def fast_convolutions(device: torch.device) -> Iterator[None]:
    """Shapes repeat every step, so cuDNN may measure its algorithms once."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        yield
