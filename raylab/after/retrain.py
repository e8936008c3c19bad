"""From chosen configs to models trained on train and val together, side by side on Ray.

N = images of the source, T = test images, K = classes.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from raylab.config.sweep import Resources
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.events.progress import HEARTBEAT_S, View
from raylab.images.mapped import mapped_pixels
from raylab.images.prepare import Variant, as_array, prepare
from raylab.images.source import Source
from raylab.images.variant import Format
from raylab.storage import Folder
from raylab.sweep.cluster import Capacity, Slot, image_memory_bytes, slot_for
from raylab.sweep.parents import begun
from raylab.sweep.shards import Images, Places
from raylab.training.checkpoint import save_model
from raylab.training.device import device_for, device_name
from raylab.training.heap import keep_freed_memory
from raylab.training.pixels import as_tensor
from raylab.training.refit import Refitted, refit
from raylab.training.worker import TrainingData


@dataclass(frozen=True, slots=True)
class Job:
    """One config to train anew. train, test: int64, places in `Images`."""

    trial_id: str
    config: TrialConfig
    train: Places
    test: Places
    num_epochs: int
    val_losses: tuple[float, ...]
    """Of the sweep's trial, by epoch: what its plateau schedule heard."""
    results: str
    """Where the weights lie with which it begins, if they are another trial's."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a job came to."""

    fit: Refitted
    device: str
    seconds: float


def retrain_all(
    jobs: Sequence[Job],
    images: Images,
    variants: Mapping[Format, Variant],
    resources: Resources,
    capacity: Capacity,
    view: View,
) -> list[Retrained]:
    """One process per job, as wide as one worker of the sweep; on a connected Ray.

    Raises Refused where none fits, CannotFinish when one of them fails.
    """
    slot = slot_for(resources, capacity)
    pixels = loaded(variants, image_memory_bytes(resources, capacity))
    task = task_of(retrain, slot)
    waiting = {}
    for job in jobs:
        images_of = f"{len(job.train):,} images of train and val"
        view.note(f"retrain {job.trial_id} on {images_of} for {job.num_epochs} epochs")
        unlocked = np.full(len(images.labels), -1, dtype=np.int64)
        unlocked[job.train] = images.labels[job.train]
        taught = images.taught(job.config, job.test)
        if taught is not None:
            taught = np.where(unlocked[:, None] >= 0, taught, 0)
        known = unlocked, taught, images.rows, images.classes
        waiting[task.remote(job, pixels[Format.of(job.config)], *known, slot)] = job.trial_id
    return gathered(waiting, "retraining", "nothing was scored", view)


def task_of(function: Callable[..., Any], slot: Slot) -> Any:
    """The Ray task, as wide as one worker of the sweep; on a GPU each call has its own process, as
    Ray does it for what is asked for here, not in `options`: another GPU could be a later call's.
    """
    ask = ray.remote(num_cpus=slot.cpus_per_worker, num_gpus=slot.gpus_per_worker, max_retries=2)
    return ask(function)


def gathered(waiting: dict[Any, str], doing: str, lost: str, view: View) -> list[Any]:
    """What the tasks, of which each has a trial's id, return, in their order.

    Raises CannotFinish, with what is `lost`, as soon as one of them fails.
    """
    refs, found = list(waiting), {}
    try:
        while waiting:  # a log that says nothing for long looks like one that hangs
            ended, _ = ray.wait(list(waiting), timeout=HEARTBEAT_S)
            for ref in ended:
                trial_id = waiting.pop(ref)
                found[ref] = returned(ref, f"the {doing} of {trial_id}", lost)
                view.note(f"{doing} {trial_id}: done")
            if not ended:
                view.note(f"{doing}: {len(waiting)} of {len(refs)} still run")
    finally:
        for ref in waiting:  # after an error, or Ctrl-C in a Ray that lives on
            ray.cancel(ref)
    return [found[ref] for ref in refs]


def returned(ref: Any, task: str, lost: str) -> Any:
    """What the task gave; CannotFinish, with what is `lost`, where it failed."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise CannotFinish(f"{task} failed: {error.cause}; {lost}") from error
    except RayError as error:
        raise CannotFinish(f"{task} was lost: {error}; {lost}") from error


def variants_of(
    configs: Iterable[TrialConfig], source: Source, cache: Folder, view: View
) -> dict[Format, Variant]:
    """What trials of the configs look at, prepared where it is not there."""
    forms = dict.fromkeys(map(Format.of, configs))
    return {
        form: prepare(source, form, cache, partial(view.preparing, str(form))) for form in forms
    }


def loaded(variants: Mapping[Format, Variant], memory_bytes: float) -> dict[Format, Any]:
    """The pixels in the object store as far as it holds them; else the variant, to be mapped."""
    refs = {}
    for key, variant in variants.items():
        fits = variant.num_bytes <= memory_bytes
        memory_bytes -= variant.num_bytes if fits else 0
        size, channels = key.image_size, key.channels
        refs[key] = ray.put(as_array(variant.table(), size, channels) if fits else variant)
    return refs


def at_hand(pixels: npt.NDArray[np.uint8] | Variant) -> npt.NDArray[np.uint8]:
    """uint8 (rows, S, S, C): what `loaded` gave a task."""
    return mapped_pixels(pixels) if isinstance(pixels, Variant) else pixels


def retrain(
    job: Job,
    pixels: npt.NDArray[np.uint8] | Variant,
    labels: Places,
    soft_labels: npt.NDArray[np.float32] | None,
    pixel_rows: Places,
    classes: tuple[str, ...],
    slot: Slot,
) -> Retrained:
    """The Ray task. labels: int64 (N,), -1 for every image that does not train; soft_labels:
    float32 (N, K), learned in place of labels, 0 there.
    """
    torch.set_num_threads(slot.cpus_per_worker)
    keep_freed_memory()
    began = time.perf_counter()
    data = TrainingData(
        images=as_tensor(at_hand(pixels)),
        labels=labels,
        train_rows=job.train,
        val_rows=np.empty(0, dtype=np.int64),
        classes=classes,
        pixel_rows=pixel_rows,
        soft_labels=soft_labels,
    )
    device = device_for(has_gpu=slot.gpus_per_worker > 0)
    with begun(job.config, job.results) as config:
        fit = refit(config, data, job.test, device, job.num_epochs, job.val_losses)
    return Retrained(fit, device_name(device), time.perf_counter() - began)


def write_model(folder: Folder, job: Job, classes: tuple[str, ...], model: Retrained) -> None:
    """The model as every kept one: weights, and what predicting with them needs."""
    with begun(job.config, job.results) as config:
        save_model(folder, config, classes, model.fit.state, model.fit.precision, job.config)
