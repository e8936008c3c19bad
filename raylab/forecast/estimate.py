"""From a plan and how fast its kinds of trial run to the time and the money it will take; no Ray.

Trials are laid into the slots in their order, as the sweep does, so that a last round of few trials
counts whole.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice

import numpy as np

from raylab.config.sweep import Resources
from raylab.config.trial import SplitConfig, TrialConfig
from raylab.forecast.halving import expected_share
from raylab.forecast.spread import Spread
from raylab.forecast.workload import Workload, costly, workload_of
from raylab.images.split import assign
from raylab.machine import num_cpus
from raylab.sweep.plan import Plan

# From one trial's last step to the next one's first in a warm slot; `raylab bench` measures it.
LAUNCH_S = 0.15
# A worker group's processes start anew for every trial: 12-14 s seen.
GROUP_START_S = 13.0


def launch_s(workers: int) -> float:
    """Seconds from one trial's last step to the next one's first, beside what it loads."""
    return LAUNCH_S + (GROUP_START_S if workers > 1 else 0.0)


@dataclass(frozen=True)
class Speed:
    """What trials of one workload cost."""

    train_s: Spread
    """Per image trained on, in one worker."""
    val_s: Spread
    """Per image validated."""
    trial_s: Spread
    """Once per trial, beside its epochs: also the start of its workers."""

    def of_trial(self, epochs: float, num_train: int, num_val: int, workers: int) -> Spread:
        """Seconds of a whole trial."""
        epoch = self.train_s.times(num_train / workers) + self.val_s.times(num_val / workers)
        return epoch.times(epochs) + self.trial_s


@dataclass(frozen=True)
class Measured:
    """What is known of this machine's speed, and whence."""

    speeds: Mapping[Workload, Speed]
    start: Spread
    """Seconds until the first trial's first step, preparation not counted."""
    basis: str
    """`a probe on this machine`, `12 measured trials on cpu`."""


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take, in seconds."""

    start: Spread
    prepare: Spread
    trials: Spread
    slots: int
    share: Spread
    """Of the planned epochs that will run; 1 without ASHA."""
    basis: str

    @property
    def whole(self) -> Spread:
        """From the start of the command to its leaderboard."""
        return self.start + self.prepare + self.trials


def estimate(
    plan: Plan,
    configs: Iterable[TrialConfig],
    measured: Measured,
    slots: int,
    prepare: Spread,
    averaged: int | None = None,
) -> Estimate | list[Workload]:
    """The time of running `configs`, all trials of the plan that are not done, or so many of which
    each takes their average; or the workloads of which no speed is known.
    """
    wanted = list(configs)
    workload = workloads(plan)
    unknown = {workload(c) for c in wanted} - measured.speeds.keys()
    if unknown:
        return sorted(unknown, key=str)
    num = len(wanted) if averaged is None else averaged
    epochs = islice(cycle(config.epochs for config in wanted), num)
    share = expected_share(plan.sweep.scheduler, list(epochs))
    counts = split_counts(plan)
    workers = plan.sweep.resources.workers
    memo: dict[tuple[Workload, int, tuple[int, int]], Spread] = {}

    def seconds(config: TrialConfig) -> Spread:
        kind, sides = workload(config), counts(config.split)
        key = kind, config.epochs, sides
        if key not in memo:
            epochs = config.epochs * share.mid
            memo[key] = measured.speeds[kind].of_trial(epochs, *sides, workers)
        return memo[key]

    durations = [seconds(config) for config in wanted]
    if averaged is not None:
        durations = [Spread.mean(durations)] * averaged
    trials = laid_out(durations, slots, share, plan.sweep.search.population)
    start = measured.start if wanted else Spread.exactly(0.0)
    return Estimate(start, prepare, trials, slots, share, measured.basis)


def laid_out(
    durations: list[Spread], slots: int, share: Spread, population: int | None = None
) -> Spread:
    """Seconds until the last of the trials ends, `slots` side by side, each begun in its turn; each
    `population` of them, counted from the last, when all before it have ended.
    """
    if not durations:
        return Spread.exactly(0.0)
    ends = [0.0] * slots
    for num_left, duration in zip(range(len(durations), 0, -1), durations, strict=True):
        if population and num_left % population == 0:
            ends = [max(ends)] * slots
        heapq.heapreplace(ends, ends[0] + duration.mid)
    low, mid, high = (sum(getattr(d, part) for d in durations) for part in ("low", "mid", "high"))
    whole = max(ends)
    return Spread(
        whole * low / mid * share.low / share.mid,
        whole,
        whole * high / mid * share.high / share.mid,
    )


def workloads(plan: Plan) -> Callable[[TrialConfig], Workload]:
    """`workload_of`, worked out once per combination of the costly fields that differ."""
    fields = [name.partition(".")[0] for name in costly(plan.fields)]
    if plan.sweep.search.kind == "optuna":  # its trials are not known: all of its fields may differ
        return workload_of
    known: dict[tuple[object, ...], Workload] = {}

    def of(config: TrialConfig) -> Workload:
        values = config.__dict__
        key = tuple(values[name] for name in fields)
        if key not in known:
            known[key] = workload_of(config)
        return known[key]

    return of


def split_counts(plan: Plan) -> Callable[[SplitConfig], tuple[int, int]]:
    """A split's numbers of images to train and validate on; which seed or fold hardly matters."""

    @cache
    def counted(split: SplitConfig) -> tuple[int, int]:
        sides = assign(plan.images, split)
        return int(np.sum(sides == "train")), int(np.sum(sides == "val"))

    @cache
    def counts(split: SplitConfig) -> tuple[int, int]:
        return counted(split.model_copy(update={"seed": 0, "fold": 0}))

    return counts


def local_slots(resources: Resources, num_gpus: int) -> int:
    """Trials side by side on this machine alone; 0 if not even one fits."""
    each = resources.workers * resources.cpus
    slots = num_cpus() // each
    if num_gpus and resources.gpus == "auto":
        slots = min(slots, num_gpus // resources.workers)
    elif isinstance(gpus := resources.gpus, float) and gpus:
        # Ray lays no fraction across two GPUs; 1 / 0.2 is not quite 5.
        fits = num_gpus * int(1 / gpus + 1e-9) if gpus < 1 else num_gpus // gpus
        slots = min(slots, int(fits))
    return min(slots, resources.max_concurrent or slots)
