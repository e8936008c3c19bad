"""Sweeps as the bench runs them: through raylab's own runner, in warm slots, in given steps."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raylab.bench.stage import Stage
from raylab.bench.watch import Seen, Watch
from raylab.config.sweep import Resources, SweepConfig
from raylab.config.trial import SplitConfig, TrialConfig
from raylab.errors import CannotFinish
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.sweep.cluster import Capacity
from raylab.sweep.plan import Plan
from raylab.sweep.queue import Outcome, Proposer
from raylab.sweep.runner import Options, Outcomes, Sweeping

FILLER_SEED = 2**30
"""Seeds from here on mark trials that only warm a slot or keep it waiting."""

Step = Sequence[TrialConfig] | Callable[[], None]
"""Trials to run, or something to do while every slot waits, warm."""


def sweep_of(
    name: str,
    data: str,
    trial: dict[str, Any],
    *,
    axes: dict[str, tuple[Any, ...]] | None = None,
    seeds: int = 1,
    **options: Any,
) -> SweepConfig:
    """A grid over `axes` and the first `seeds` seeds."""
    return SweepConfig(
        name=name, data=data, trial=trial, axes=axes or {}, seeds=tuple(range(seeds)), **options
    )


class StepProposer(Proposer):
    """Proposes each step's trials when all of the steps before have ended.

    Until then it proposes fillers, trials of a few milliseconds: what a step measures so never
    shares the machine with another step. The first step waits for the fillers that came first, one
    per slot: each of them ends when its slot's process is up.
    """

    def __init__(self, steps: Sequence[Step], filler: TrialConfig, num_slots: int) -> None:
        self.steps = list(steps)
        self.cold = set(range(FILLER_SEED, FILLER_SEED + num_slots))
        self.fillers = (filler.model_copy(update={"seed": s}) for s in itertools.count(FILLER_SEED))
        self.waiting: list[TrialConfig] = []
        self.num_running = 0

    def propose(self) -> TrialConfig | None:
        """The next trial of the step, a filler, or None at the end."""
        while not self.waiting:
            if self.num_running or self.cold:
                return next(self.fillers)
            if not self.steps:
                return None
            step = self.steps.pop(0)
            if callable(step):
                step()
            else:
                self.waiting = list(step)
        self.num_running += 1
        return self.waiting.pop(0)

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        """A slot is warm when its first filler has ended; a step is over with its last trial."""
        if config.seed >= FILLER_SEED:
            self.cold.discard(config.seed)
        else:
            self.num_running -= 1


class SteppedSweeping(Sweeping):
    """raylab's runner, with the steps in place of the grid's order."""

    steps: Sequence[Step] = ()

    def proposer(self) -> Proposer:
        """Fillers are the grid's first config cut down to a few images."""
        first = next(self.plan.configs())
        split = SplitConfig(train=0.1, val=0.1, test=0.8, strategy=first.split.strategy)
        cut = {"split": split, "epochs": 1, "warmup_epochs": 0.0}
        return StepProposer(self.steps, first.model_copy(update=cut), self.slot.num_slots)


def plan_of(sweep: SweepConfig) -> Plan:
    """The sweep over its scanned source."""
    return Plan(sweep, scan(sweep.data))


def run_steps(
    stage: Stage,
    plan: Plan,
    steps: Sequence[Step],
    kind: type[SteppedSweeping] = SteppedSweeping,
) -> list[Seen]:
    """The steps' trials in warm slots; fillers are left out. Raises CannotFinish if one failed."""
    watch = Watch()
    sweeping = kind(plan, *_arguments(stage, plan.sweep), watch, stage.ray)
    sweeping.steps = steps
    ended(sweeping.run())
    return checked([seen for seen in watch.trials() if seen.config.seed < FILLER_SEED])


def run_whole(stage: Stage, sweep: SweepConfig, capacity: Capacity | None = None) -> list[Seen]:
    """The sweep as a user runs it on the connected Ray; `capacity` may pretend to have less."""
    watch = Watch()
    sweeping = Sweeping(plan_of(sweep), *_arguments(stage, sweep), watch, capacity or stage.ray)
    ended(sweeping.run())
    return checked(watch.trials())


def ended(outcomes: Outcomes) -> None:
    """Ctrl-C ends a sweep with what it has, but a measurement with nothing."""
    if outcomes.interrupted:
        raise KeyboardInterrupt


def checked(trials: list[Seen]) -> list[Seen]:
    """The trials, none of which may have failed: its time would count as speed."""
    failed = [t.record for t in trials if t.record and t.record.status == "failed"]
    if failed:
        raise CannotFinish(f"a trial of the bench failed: {failed[0].error}")
    return trials


def slots_of(stage: Stage) -> int:
    """As many trials side by side as there are CPUs of the connected Ray."""
    return int(sum(cpus for cpus, _ in stage.ray.nodes))


_NUMBERS: Iterator[int] = itertools.count()


def _arguments(stage: Stage, sweep: SweepConfig) -> tuple[ResultsDirectory, Options]:
    results = str(stage.place("results") / f"{sweep.name}-{next(_NUMBERS)}")
    return ResultsDirectory(results), Options(results, quiet=True)


CPU_ONLY = Resources(gpus=0.0)
