"""A whole sweep, Ray's start and preparation included, against the hand-written loop."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from raylab.bench.hand import HandJob, HandTimes, train_by_hand
from raylab.bench.photos import LARGE_PX, write_photos
from raylab.bench.row import Limit, Row, at_least, compared
from raylab.bench.side_by_side import SideBySide
from raylab.bench.stage import Stage
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.images.toy import write_folder

NUM_TRIALS = 8
HAND_ROUNDS = 2


@dataclass(frozen=True)
class Case:
    """One sweep: its model, its images, and what it must gain."""

    name: str
    model: str
    image_size: int
    epochs: int
    num_images: int
    limit: Limit
    write: Callable[[Path, int], object]
    batch_size: int = 128
    hand_steps: int = 5


def write_large(folder: Path, num: int) -> object:
    """Photos of 12 megapixels."""
    return write_photos(folder, num, LARGE_PX)


FULL = (
    Case("resnet18 64 px", "resnet18", 64, 6, 1400, at_least(2.5), write_folder),
    Case("cnn 48 px", "cnn", 48, 24, 1400, at_least(4), write_folder),
    Case("cnn 48 px, 12-Mpx JPEGs", "cnn", 48, 20, 280, at_least(10), write_large, 32, 3),
)
QUICK = (
    Case("cnn 48 px", "cnn", 48, 4, 500, at_least(4), write_folder, 128, 2),
    Case("cnn 48 px, 12-Mpx JPEGs", "cnn", 48, 4, 105, at_least(10), write_large, 16, 2),
)


def measure(stage: Stage) -> list[Row]:
    """A row per case: `raylab sweep` as a command, and the loop on a part, scaled."""
    return [measure_case(stage, case) for case in (QUICK if stage.quick else FULL)]


def measure_case(stage: Stage, case: Case) -> Row:
    """The loop before and after the sweep, so that a machine that changes shows."""
    stage.note(f"handwritten: {case.name}")
    folder = stage.place(f"hand-{case.name.replace(' ', '-')}")
    case.write(folder, case.num_images)
    config = TrialConfig(
        model=case.model,
        image_size=case.image_size,
        epochs=case.epochs,
        batch_size=case.batch_size,
    )
    job = HandJob(config, str(folder), stage.num_cpus, case.hand_steps)
    with SideBySide(1, stage.num_cpus) as processes:
        before = [processes.run(train_by_hand, job)[0].result for _ in range(HAND_ROUNDS)]
        sweep_s = time_sweep(stage, case, folder)
        after = [processes.run(train_by_hand, job)[0].result for _ in range(HAND_ROUNDS)]
    by_hand = [whole_loop(case, config, median_of(times)) for times in (before, after)]
    how = (
        f"{NUM_TRIALS} trials x {case.epochs} epochs of {case.num_images} images with augment "
        f"light, `raylab sweep` from its start to its end on {stage.num_cpus} CPUs, nothing in the "
        f"cache; by hand: fp32, {stage.num_cpus} loader workers, {case.hand_steps} steps of "
        "training and of validation after the first, before and after the sweep, scaled to all "
        "(the start of its workers is left out, in its favour); ratio = by hand / sweep"
    )
    name = f"whole sweep {case.name} / hand-written loop"
    return compared(name, [sweep_s], by_hand, "s", case.limit, how, speed_up=True)


def median_of(times: list[HandTimes]) -> HandTimes:
    """Field by field."""
    return HandTimes(median(t.train_s for t in times), median(t.val_s for t in times))


def whole_loop(case: Case, config: TrialConfig, times: HandTimes) -> float:
    """Seconds of all trials one after another, from seconds per image."""
    num_train, num_val = (case.num_images * f for f in (config.split.train, config.split.val))
    per_epoch = num_train * times.train_s + num_val * times.val_s
    return NUM_TRIALS * config.epochs * per_epoch


def time_sweep(stage: Stage, case: Case, folder: Path) -> float:
    """Seconds of the command, with a cache and results of its own."""
    place = stage.place(f"sweep-{folder.name}")
    grid = place / "grid.yaml"
    grid.write_text(
        f"name: by-hand\ndata: {folder}\n"
        f"trial: {{model: {case.model}, image_size: {case.image_size}, epochs: {case.epochs}, "
        f"batch_size: {case.batch_size}, augment: light}}\n"
        f"seeds: {list(range(NUM_TRIALS))}\n"
    )
    command = [sys.executable, "-m", "raylab", "sweep", str(grid), "--quiet"]
    command += ["--results", str(place / "results")]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    began = time.perf_counter()
    done = subprocess.run(
        command,
        env=environment | {"RAYLAB_CACHE": str(place / "cache")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise CannotFinish(f"raylab sweep ended with {done.returncode}: {done.stderr[-300:]}")
    return time.perf_counter() - began
