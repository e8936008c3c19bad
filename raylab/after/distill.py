"""From the kept models of a finished sweep to a teacher: what they say together of the images that
they trained on.

A teacher's own validation images are not among those, so that a trial of the same split can learn
from it and still be validated honestly. N = readable images, T = training images, K = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from raylab.after.earlier import (
    check_same_data,
    config_of,
    images_of,
    latest,
    read_sweep,
    sides_of,
)
from raylab.after.retrain import at_hand, gathered, loaded, task_of, variants_of
from raylab.config.sweep import metric_mode
from raylab.errors import Problem, Refused
from raylab.events.progress import LogView, View, Views
from raylab.images.cache import cache_folder
from raylab.images.prepare import Variant
from raylab.images.source import Source, scan
from raylab.images.teacher import teacher_table
from raylab.images.variant import Format
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record
from raylab.results.winners import value_of
from raylab.storage import Folder
from raylab.sweep.cluster import Slot, connected, image_memory_bytes, slot_for
from raylab.sweep.lock import held
from raylab.sweep.shards import Places
from raylab.training.checkpoint import load_model
from raylab.training.device import device_for
from raylab.training.predict import predict_pixels

NOTHING = "no teacher was made"


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """What `raylab distill` was asked for."""

    results: str
    top: int = 3
    """So many kept models, the best of one split, teach together."""
    data: str | None = None
    address: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Taught:
    """The teacher that came of it. agreement: share of the images whose label it says, too."""

    path: str
    trial_ids: tuple[str, ...]
    num_images: int
    agreement: float


def run_distill(options: DistillOptions) -> Taught:
    """Write teacher.parquet: the mean of the models' probabilities of each training image.

    Raises Refused where too few models were kept or the data is not the sweep's; CannotFinish when
    a prediction fails.
    """
    results = ResultsDirectory(options.results)
    sweep = read_sweep(results, options.data)
    view: View = Views()
    if not options.quiet:
        view = LogView(Console(stderr=True), "val_accuracy", ())
    with held(results):
        source = scan(sweep.data)
        records = teachers(results, source, sweep.metric, options.top)
        images = images_of(results, source, NOTHING)
        train = np.flatnonzero(sides_of(records[0], images, NOTHING) == "train")
        with connected(options.address) as capacity:
            slot = slot_for(sweep.resources, capacity)
            memory_bytes = image_memory_bytes(sweep.resources, capacity)
            cache = cache_folder(results.location)
            variants = variants_of(map(config_of, records), source, cache, view)
            images.check_rows(variants.values())
            pixels = loaded(variants, memory_bytes)
            probs = all_say(results, records, pixels, images.rows[train], slot, view)
        mean = np.stack(probs).mean(0, dtype=np.float64).astype(np.float32)
        ids = [images.image_ids[place] for place in train]
        path = results.write_teacher(teacher_table(ids, mean, images.classes))
    agreement = float((mean.argmax(1) == images.labels[train]).mean())
    return Taught(path, tuple(r.trial_id for r in records), len(train), agreement)


def refuse(place: str, text: str) -> NoReturn:
    """One problem, and nothing was predicted."""
    raise Refused([Problem(place, text)], "the request", NOTHING)


def teachers(results: ResultsDirectory, source: Source, metric: str, num: int) -> list[Record]:
    """The `num` best complete trials that learned from these very images and whose weights were
    kept, all of the best one's split; Refused if there are fewer.
    """
    records, kept = results.records(), results.checkpoint_ids()
    if records:
        check_same_data(source, records, "the sweep")
    same = [
        record
        for record in latest(records)
        if record.trial_id in kept
        and record.data_fingerprint == source.fingerprint
        and record.status == "complete"
        and getattr(record, metric) is not None
    ]
    if not same:
        text = "keeps the weights of no complete trial on this data; raise `keep` in the grid"
        refuse(results.location, f"{text}, and run it with --fresh")
    sign = 1 if metric_mode(metric) == "max" else -1
    same.sort(key=lambda record: (-sign * value_of(record, metric), record.trial_id))
    alike = [record for record in same if record.split_fingerprint == same[0].split_fingerprint]
    if len(alike) < num:
        text = (
            f"{len(alike)} kept models learned from the best one's training images, {num} are "
            "wanted; ask for fewer, or raise `keep` in the grid, and run it with --fresh"
        )
        refuse(f"--top {num}", text)
    return alike[:num]


def all_say(
    results: ResultsDirectory,
    records: Sequence[Record],
    pixels: Mapping[Format, Any],
    rows: Places,
    slot: Slot,
    view: View,
) -> list[npt.NDArray[np.float32]]:
    """(T, K) of each model, one process per model, as wide as one worker of the sweep."""
    task = task_of(say, slot)
    waiting = {}
    for record in records:
        folder = results.checkpoint(record.trial_id)
        form = Format.of(config_of(record))
        waiting[task.remote(folder.location, pixels[form], rows, slot)] = record.trial_id
    return gathered(waiting, "prediction", NOTHING, view)


def say(
    folder: str, pixels: npt.NDArray[np.uint8] | Variant, rows: Places, slot: Slot
) -> npt.NDArray[np.float32]:
    """The Ray task: probabilities (T, K) of the kept model in `folder`; rows: int64 (T,), places in
    the variant's pixels.
    """
    torch.set_num_threads(slot.cpus_per_worker)
    kept = load_model(Folder(folder))
    device = device_for(has_gpu=slot.gpus_per_worker > 0)
    network = kept.network.to(device).to(memory_format=torch.channels_last)
    return predict_pixels(kept, network, at_hand(pixels), device, rows)
