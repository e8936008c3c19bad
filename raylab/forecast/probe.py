"""From a plan's workloads to their speed on this machine: real steps in as many processes as trials
will run side by side, since they share memory and caches; without Ray.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from raylab.config.sweep import Resources
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Problem, Refused
from raylab.forecast.estimate import Measured, Speed, launch_s, workloads
from raylab.forecast.spread import Spread
from raylab.forecast.workload import TIMED, Workload, workload_name, workload_of
from raylab.sweep.plan import Plan
from raylab.training.speed import Timings, measure

MAX_WORKLOADS = 24
MAX_PROCESSES = 64
# A sweep starts its driver, Ray, and a process per slot: so many starts of one process, and so many
# seconds of Ray's own.
STARTS, RAY_S = 2.0, 4.0


@dataclass(frozen=True)
class Probed:
    """What one process saw."""

    started_s: float
    """Seconds since 1970 when its imports were done."""
    timings: list[Timings]


def num_gpus() -> int:
    """GPUs of this machine."""
    return torch.cuda.device_count()


def probe(plan: Plan, slots: int, tell: Callable[[str], object]) -> Measured:
    """The speed of every workload of the plan.

    Refused where there are too many of them, CannotFinish where one cannot be trained.
    """
    examples: dict[Workload, TrialConfig] = {}
    workload = workloads(plan)
    for config in plan.examples(TIMED):
        examples.setdefault(workload(config), config)
    if len(examples) > MAX_WORKLOADS:
        text = (
            f"{len(examples)} kinds of trial differ in speed (at most {MAX_WORKLOADS} are probed)"
        )
        raise Refused([Problem("--probe", text)], "the options", "nothing was measured")
    tell(f"probing {len(examples)} kinds of trial, {slots} processes at once")
    resources = plan.sweep.resources
    began_s = time.time()
    seen = side_by_side(list(examples.values()), len(plan.source.classes), resources, slots)
    import_s = sum(each.started_s for each in seen) / len(seen) - began_s
    speeds = {
        kind: speed_of([each.timings[i] for each in seen], resources.workers)
        for i, kind in enumerate(examples)
    }
    start = Spread.exactly(STARTS * import_s + RAY_S)
    wide = Spread(0.7 * start.low, start.mid, 1.5 * start.high)
    return Measured(speeds, wide, "a probe on this machine")


def side_by_side(
    configs: Sequence[TrialConfig], num_classes: int, resources: Resources, slots: int
) -> list[Probed]:
    """What each of so many processes saw, all of them busy with the same config at a time."""
    gpus = num_gpus() if resources.gpus else 0
    count = min(slots, MAX_PROCESSES)
    spawn = multiprocessing.get_context("spawn")  # a forked torch may hang
    with ProcessPoolExecutor(count, mp_context=spawn) as processes:
        waiting = [
            processes.submit(
                probe_here, configs, num_classes, resources.cpus, i % gpus if gpus else None
            )
            for i in range(count)
        ]
        try:
            return [each.result() for each in waiting]
        except BrokenProcessPool as error:
            raise CannotFinish(f"the probe's process died: {error}") from error


def probe_here(
    configs: Sequence[TrialConfig], num_classes: int, threads: int, gpu: int | None
) -> Probed:
    """Times the configs one after another in this process."""
    started_s = time.time()
    torch.set_num_threads(threads)
    device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
    timings = []
    for config in configs:
        try:
            timings.append(measure(config, num_classes, device))
        except (ValueError, RuntimeError) as error:
            name = workload_name(workload_of(config))
            raise CannotFinish(f"{name} cannot be trained: {error}") from error
    return Probed(started_s, timings)


def speed_of(timings: Sequence[Timings], workers: int) -> Speed:
    """One workload's speed, from what every process saw of it."""
    return Speed(
        Spread.of(second for each in timings for second in each.train_s),
        Spread.of(second for each in timings for second in each.val_s),
        Spread.of(each.trial_s + launch_s(workers) for each in timings),
    )
