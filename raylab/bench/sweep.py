"""A sweep's wall time in warm slots against the bare loop, in turns on one machine."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from raylab.bench import side_by_side, watch
from raylab.bench.bare import BareJob, train_bare
from raylab.bench.faces import bare_job, prepared
from raylab.bench.row import Row, at_most, compared, judged
from raylab.bench.side_by_side import SideBySide
from raylab.bench.stage import Stage
from raylab.bench.trials import CPU_ONLY, Step, plan_of, run_steps, run_whole, slots_of, sweep_of
from raylab.config.trial import TrialConfig
from raylab.sweep.plan import Plan

MIN_TRIALS = 8
LIMITS = {"none": at_most(1.08), "light": at_most(1.25)}
NAIVE_LIMIT = at_most(0.6)
HOW = (
    "{trials} trials of {epochs} epochs, {slots} side by side, first start to last end in warm "
    "slots; the bare loop trains and validates the same steps; sides in turns, {rounds} rounds "
    "(the naive loop: one), medians; ratio = sweep / bare"
)


@dataclass(frozen=True)
class Work:
    """One model's trials, in each of the rounds."""

    model: str
    image_size: int
    epochs: int
    num_images: int
    rounds: int = 2

    @property
    def name(self) -> str:
        return f"{self.model} {self.image_size} px"


# With trials much shorter than these, launching them would be most of what is compared.
QUICK = (Work("cnn", 48, 1, 300),)
FULL = (Work("cnn", 48, 4, 1400), Work("resnet18", 64, 1, 1400))


@dataclass
class Timings:
    """Seconds per side, one for every round."""

    sweep: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By augmentation."""
    bare: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)


def measure(stage: Stage) -> list[Row]:
    """Rows per model: augment none, light against the bare loop, none against the naive one."""
    rows: list[Row] = []
    slots = slots_of(stage)
    with SideBySide(slots) as processes:
        for work in QUICK if stage.quick else FULL:
            stage.note(f"sweep: {work.name}")
            trials = slots * -(-MIN_TRIALS // slots)  # as many in every slot
            timings = time_sides(stage, work, processes, trials)
            rows += rows_of(work, timings, trials, slots)
    return rows if stage.quick else [*rows, cold_start(stage)]


def plan_for(work: Work, num_trials: int) -> Plan:
    """Every round has seeds of its own, so that no trial is run twice."""
    trial = {"model": work.model, "image_size": work.image_size, "epochs": work.epochs}
    return plan_of(
        sweep_of(
            f"bench-{work.model}",
            f"toy:num={work.num_images}",
            trial,
            axes={"augment": tuple(LIMITS)},
            seeds=num_trials * work.rounds,
            resources=CPU_ONLY,
        )
    )


def time_sides(stage: Stage, work: Work, processes: SideBySide, num_trials: int) -> Timings:
    """One sweep whose warm slots wait while the bare loops have their turns."""
    plan = plan_for(work, num_trials)
    configs = list(plan.configs())
    faces = prepared(stage, plan.source, work.image_size, configs[0].channels)
    share = num_trials // len(processes.pipes)
    fast, naive = (bare_job(faces, configs[0], share, naive=each) for each in (False, True))
    timings = Timings()
    steps: list[Step] = [partial(warm_up, processes, fast), partial(warm_up, processes, naive)]
    for number in range(work.rounds):
        steps += [
            of_round(configs, "none", number, num_trials),
            timed(processes, fast, timings.bare),
            of_round(configs, "light", number, num_trials),
        ]
        if number == 0:  # it is the slowest side, and far from its limit
            steps.append(timed(processes, naive, timings.naive))
    seen = run_steps(stage, plan, steps)
    for number in range(work.rounds):
        for augment in LIMITS:
            mine = [t for t in seen if in_round(t.config, augment, number, num_trials)]
            timings.sweep[augment].append(watch.wall(mine))
    return timings


def of_round(
    configs: list[TrialConfig], augment: str, number: int, num_trials: int
) -> list[TrialConfig]:
    """The configs of one round and augmentation."""
    return [config for config in configs if in_round(config, augment, number, num_trials)]


def in_round(config: TrialConfig, augment: str, number: int, num_trials: int) -> bool:
    """Whether the config belongs to that round and augmentation."""
    return config.augment.name == augment and config.seed // num_trials == number


def warm_up(processes: SideBySide, job: BareJob) -> None:
    """One epoch of one trial: libraries choose their kernels, memory is asked for once."""
    config = job.config.model_copy(update={"epochs": 1})
    processes.run(train_bare, replace(job, config=config, num_trials=1))


def timed(processes: SideBySide, job: BareJob, into: list[float]) -> Callable[[], None]:
    """A step that runs the bare loops and keeps their wall time."""

    def step() -> None:
        into.append(side_by_side.wall(processes.run(train_bare, job)))

    return step


def rows_of(work: Work, timings: Timings, num_trials: int, slots: int) -> list[Row]:
    """From seconds to rows."""
    how = HOW.format(trials=num_trials, epochs=work.epochs, slots=slots, rounds=work.rounds)
    rows = [
        compared(
            f"sweep {work.name}, augment {augment} / bare loop",
            timings.sweep[augment],
            timings.bare,
            "s",
            limit,
            how,
        )
        for augment, limit in LIMITS.items()
    ]
    naive = f"sweep {work.name} / naive bare loop (fp32, contiguous)"
    return [*rows, compared(naive, timings.sweep["none"], timings.naive, "s", NAIVE_LIMIT, how)]


def cold_start(stage: Stage) -> Row:
    """What the warm figures leave out: the slots' processes and their imports."""
    trial = {"model": "cnn", "image_size": 48, "epochs": 1}
    began = time.monotonic()
    sweep = sweep_of("bench-cold", "toy:num=200", trial, resources=CPU_ONLY)
    first = run_whole(stage, sweep)[0].first_step_s - began
    how = "from the runner's start: 200 images prepared, the slot's process started, torch imported"
    return judged("cold start, sweep to first step", first, "s", None, how)
