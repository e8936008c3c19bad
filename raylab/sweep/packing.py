"""`gpus: auto`: how many trials share one GPU, from a short probe of what one trial takes."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from raylab.config.sweep import Resources
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.images.variant import Format
from raylab.sweep.cluster import Capacity, Slot, slot_for
from raylab.sweep.entry import measure_on_gpu
from raylab.training.footprint import Footprint

# Trials differ a little from the one that was probed, and memory fragments.
USABLE_MEMORY_FRAC = 0.85
MAX_PACKED = 16

Size = Callable[[TrialConfig], Any]


def num_learning(train_layers: str | tuple[str, ...]) -> float:
    """More the more layers keep what went through them until the gradient comes."""
    return {"all": math.inf, "head": 0.0}.get(str(train_layers), len(train_layers))


MEMORY_FIELDS: dict[str, Callable[[Any], float]] = {
    "train_layers": num_learning,
    # By how many tensors they keep of each weight, and those that are not fused work in more.
    "optimizer": ("sgd", "adam", "adamw", "rmsprop", "nadam", "radam").index,
    "amp": ("bf16", "fp16", "auto", "none").index,
    "sam_rho": float,
    "ema_decay": float,
    "swa_frac": float,
}
"""Beside the model and the images, what a trial's memory hangs on, and which value takes more."""


def wants_probe(resources: Resources, capacity: Capacity) -> bool:
    """Whether the packing is raylab's to choose and there is a GPU to choose it for."""
    return resources.gpus == "auto" and resources.workers == 1 and capacity.has_gpus


def trials_per_gpu(footprints: Iterable[Footprint]) -> int:
    """As many as fit the memory, until the GPU is busy; what every probed trial allows."""
    allowed = [
        min(
            math.floor(USABLE_MEMORY_FRAC * each.gpu_bytes / each.peak_bytes),
            math.floor(1 / max(each.busy, 1 / MAX_PACKED) + 0.5),
        )
        for each in footprints
    ]
    return max(1, min([*allowed, MAX_PACKED]))


def packed_slot(resources: Resources, capacity: Capacity, footprints: list[Footprint]) -> Slot:
    """The slot with its share of a GPU, where the nodes' CPUs feed as many trials."""
    per_gpu = trials_per_gpu(footprints)
    for node_cpus, node_gpus in capacity.at_most:
        if node_gpus:
            per_gpu = max(1, min(per_gpu, int(node_cpus / resources.cpus / node_gpus)))
    return slot_for(resources.model_copy(update={"gpus": 1 / per_gpu}), capacity)


def heaviest(configs: Iterable[TrialConfig]) -> list[TrialConfig]:
    """Of each model what takes as much memory as any config: that with the most pixels per batch to
    learn from, and that with the most per image, since all validate as many at a time; of every
    other field that memory hangs on, the value that takes the most of it.
    """
    most: dict[tuple[str, Size], TrialConfig] = {}
    for config in configs:
        for size in (batch_pixels, image_pixels):
            known = most.get((config.model, size), config)
            most[config.model, size] = both(known, config, size)
    return sorted(dict.fromkeys(most.values()), key=batch_pixels, reverse=True)


def as_trained(configs: Iterable[TrialConfig], num_images: int) -> Iterator[TrialConfig]:
    """The configs with batches no larger than all the images: a trial cuts what it has."""
    for config in configs:
        fits = config.batch_size <= num_images
        yield config if fits else config.model_copy(update={"batch_size": num_images})


def both(one: TrialConfig, other: TrialConfig, size: Size) -> TrialConfig:
    """The larger of two of a model, with whatever takes more memory in the other."""
    larger = max(one, other, key=size)
    taken = {
        name: max(getattr(one, name), getattr(other, name), key=takes)
        for name, takes in MEMORY_FIELDS.items()
    }
    if all(getattr(larger, name) == value for name, value in taken.items()):
        return larger
    return larger.model_copy(update=taken)


def batch_pixels(config: TrialConfig) -> int:
    """Numbers in one batch of images."""
    return config.batch_size * config.image_size**2 * config.channels


def image_pixels(config: TrialConfig) -> tuple[int, int]:
    """Numbers in one image; of equals the larger batch is more."""
    return config.image_size**2 * config.channels, config.batch_size


def probe(
    configs: list[TrialConfig], num_classes: int, image_bytes: Mapping[Format, int]
) -> list[Footprint]:
    """Measure each config on a GPU of the cluster, one after another, in a process of its own; its
    images, which stay on the GPU, count as `image_bytes`. CannotFinish where one cannot be trained.
    """
    task = ray.remote(num_gpus=1, num_cpus=1, max_calls=1)(measure_on_gpu)
    found = []
    for config in configs:
        try:
            all_images = image_bytes.get(Format.of(config), 0)
            found.append(ray.get(task.remote(config, num_classes, all_images)))
        except RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise CannotFinish(
                f"gpus: auto probed {config.model} at {config.image_size} px, which could not be "
                f"trained: {reason}\nNo trial was started. Mend the config, or give resources.gpus "
                "a number (1 = a GPU per trial), and nothing is probed."
            ) from error
    return found


def sentence(config: TrialConfig, footprint: Footprint) -> str:
    """What a probe found, for the log."""
    return (
        f"{config.model} at {config.image_size} px takes {footprint.peak_bytes / 1e9:.1f} of "
        f"{footprint.gpu_bytes / 1e9:.0f} GB and {footprint.busy:.0%} of a GPU's time"
    )
