"""Which trial runs next: grid, random, Optuna or a population behind Tune's Searcher, less what is
finished.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from pydantic import ValidationError
from ray.tune.search import Searcher

from raylab.config.expand import num_replicas
from raylab.config.population import Population
from raylab.config.sweep import Distribution, SweepConfig, metric_mode
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.results.record import Record
from raylab.sweep.draws import assignment_of, drawn_for, recalled, runs_of
from raylab.sweep.failures import OF_THE_MACHINE

MAX_DRAWS = 1000
RECALLED = {"recalled": True}
"""What Optuna is told of a draw that an earlier run of the sweep made."""
UNFIT: Final = "unfit"
"""Said in place of a value where the config itself failed: it diverged, or no memory held it."""
# Of a config the metric's value; None where its machine failed, which says nothing of it.
Outcome = float | Literal["unfit"] | None
LATER: Final = "later"
"""Said in place of a config while the next one hangs on trials that still run."""
Proposal = TrialConfig | Literal["later"] | None


class Proposer(Protocol):
    """Where configs come from."""

    def propose(self) -> Proposal:
        """The next config, or None when there is no more."""

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        """Hear what a proposed config reached."""

    def needed(self) -> Collection[str]:
        """The trials whose weights others may still begin with."""
        return ()

    def recalled(self) -> Collection[TrialConfig]:
        """What it proposes again, since an earlier run of the sweep did, where no plan says so."""
        return ()


class ListProposer(Proposer):
    """Grid and random search: the configs are known beforehand."""

    def __init__(self, configs: Iterator[TrialConfig]) -> None:
        self.configs = configs

    def propose(self) -> TrialConfig | None:
        return next(self.configs, None)

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        """Nothing is learned from outcomes."""


class PopulationProposer(Proposer):
    """A population, one generation after the other; `population` knows what was finished before."""

    def __init__(
        self, population: Population, num_trials: int, missing: Callable[[set[str]], list[str]]
    ) -> None:
        """num_trials: at most, finished ones too; `missing` gives those without weights."""
        self.population, self.missing = population, missing
        self.waiting: list[TrialConfig] = []
        self.begun = 0
        """The generation that was lined up last."""
        trials = [population.identify(config) for config in population.configs()]
        self.num_left = num_trials - sum(name in population.outcomes for name in trials)

    def propose(self) -> Proposal:
        if self.num_left <= 0:
            return None
        self.population.grow()
        if self.begun < self.population.generation:
            self.line_up()
        if not self.waiting:
            return LATER if self.population.open else None
        self.num_left -= 1
        return self.waiting.pop(0)

    def line_up(self) -> None:
        """All that is left of the newest generation; CannotFinish where its beginning is gone."""
        self.begun = self.population.generation
        self.waiting = list(self.population.open.values())
        if gone := self.missing(self.population.parents()):
            raise CannotFinish(
                f"generation {self.begun} begins with the weights of trial {', '.join(gone)}, "
                "which the results no longer keep, as those of a search that has ended; --fresh "
                "runs all generations again"
            )

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        value = None if outcome == UNFIT else outcome
        self.population.outcomes[self.population.identify(config)] = value

    def needed(self) -> Collection[str]:
        return self.population.needed()


class OptunaProposer(Proposer):
    """Optuna's TPE over the axes; a draw runs with every seed and fold and is told their mean."""

    def __init__(
        self,
        sweep: SweepConfig,
        finish: Callable[[TrialConfig], TrialConfig],
        num_trials: int,
        remember: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        is_max = metric_mode(sweep.metric) == "max"
        direction = StudyDirection.MAXIMIZE if is_max else StudyDirection.MINIMIZE
        self.study = optuna.create_study(direction=direction, sampler=sampler_for(sweep))
        self.sweep, self.finish = sweep, finish
        self.distributions = optuna_space(sweep)
        self.waiting: list[TrialConfig] = []
        self.num_left, self.remember = num_trials, remember
        self.assignments: list[dict[str, Any]] = []
        """All draws that are remembered, those of earlier runs first."""
        self.open: dict[TrialConfig, list[optuna.Trial]] = defaultdict(list)
        self.outcomes: dict[int, list[Outcome]] = defaultdict(list)

    def recall(self, assignments: Iterable[Mapping[str, Any]]) -> None:
        """Propose these first, in their order: what an earlier run of the sweep drew. They stay
        remembered, however many of them this run comes to.
        """
        self.assignments = [dict(assignment) for assignment in assignments]
        self.study.sampler = sampler_for(self.sweep, len(self.assignments))
        for assignment in self.assignments:
            drawn = drawn_for(self.sweep, assignment)
            if drawn is not None:
                self.study.enqueue_trial(drawn, user_attrs=RECALLED)

    def recalled(self) -> Collection[TrialConfig]:
        found = recalled(self.sweep, self.assignments, self.finish)
        return found[: self.num_left]

    def learn(self, points: Iterable[tuple[dict[str, Any], float]]) -> int:
        """Know these (drawn, value) from the start; gives how many they are. They count as none of
        the trials to run.
        """
        known = [
            optuna.trial.create_trial(params=drawn, distributions=self.distributions, value=value)
            for drawn, value in points
        ]
        self.study.add_trials(known)
        return len(known)

    def propose(self) -> TrialConfig | None:
        if self.num_left <= 0:
            return None
        if not self.waiting:
            trial, self.waiting = self.ask()
            for config in self.waiting:
                self.open[config].append(trial)
        self.num_left -= 1
        return self.waiting.pop(0)

    def ask(self) -> tuple[optuna.Trial, list[TrialConfig]]:
        """Optuna's next point with every seed and fold; those whose fields disagree are skipped."""
        for _ in range(MAX_DRAWS):
            trial = self.study.ask(self.distributions)
            assignment = assignment_of(self.sweep, trial.params)
            try:
                configs = runs_of(self.sweep, assignment, self.finish)
            except ValidationError:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            if trial.user_attrs != RECALLED:
                self.assignments.append(assignment)
                self.remember(self.assignments)
            return trial, configs
        raise CannotFinish(f"no allowed config in {MAX_DRAWS} draws; loosen the axes")

    def observe(self, config: TrialConfig, outcome: Outcome) -> None:
        if not self.open[config]:
            return
        trial = self.open[config].pop(0)
        outcomes = self.outcomes[trial.number]
        outcomes.append(outcome)
        if len(outcomes) < num_replicas(self.sweep):
            return
        values = [value for value in outcomes if value is not None and value != UNFIT]
        if len(values) == len(outcomes):
            self.study.tell(trial, sum(values) / len(values))
        elif UNFIT in outcomes:  # to TPE worse than all others; of FAIL it would learn nothing
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)


def sampler_for(sweep: SweepConfig, num_drawn: int = 0) -> optuna.samplers.TPESampler:
    """After so many draws of earlier runs a stream of its own: the first one would give them again
    for new ones.
    """
    return optuna.samplers.TPESampler(seed=sweep.seeds[0] + num_drawn, constant_liar=True)


def outcome_of(record: Record, metric: str) -> Outcome:
    """What the proposer hears of a trial that has ended."""
    value = record.outcome(metric)
    return UNFIT if value is None and record.error_kind not in OF_THE_MACHINE else value


def optuna_space(sweep: SweepConfig) -> dict[str, BaseDistribution]:
    """Each axis, and each zip group by its place, as the Optuna distribution that it means.

    Lists are drawn by position, since Optuna's categories must be scalars.
    """
    space: dict[str, BaseDistribution] = {}
    for key, axis in sweep.axes.items():
        if not isinstance(axis, Distribution):
            space[key] = CategoricalDistribution(range(len(axis)))
        elif axis.kind == "randint":
            space[key] = IntDistribution(int(axis.low), int(axis.high) - 1)
        else:
            space[key] = FloatDistribution(axis.low, axis.high, log=axis.kind == "loguniform")
    for place, group in enumerate(sweep.zip):
        num_rows = len(next(iter(group.values())))
        space[f"zip {place}"] = CategoricalDistribution(range(num_rows))
    return space


class TrialQueue(Searcher):
    """Tune's view of a Proposer: asks it for the next config that has not run yet.

    `finished` says of a trial_id whether it is finished already, and its outcome (then it is
    observed and skipped); `may_start` whether the budget still allows a start; with the weights of
    `parents` some config may begin.
    """

    def __init__(
        self,
        proposer: Proposer,
        identify: Callable[[TrialConfig], str],
        finished: Callable[[str], tuple[bool, Outcome]],
        may_start: Callable[[], bool],
        metric: str,
        parents: Collection[str] = (),
    ) -> None:
        super().__init__(metric=metric, mode=metric_mode(metric))
        self.proposer, self.identify = proposer, identify
        self.finished, self.may_start = finished, may_start
        self.parents = parents
        self.running: dict[str, TrialConfig] = {}
        self.started: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        """Of the trials of this run that have ended."""
        self.repeats: Counter[str] = Counter()
        """How often a trial that runs was proposed again."""
        self.is_stopped = False
        self.is_cut_short = False
        """Whether the budget kept it from starting a trial."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Tune's question for the next trial; its `trial_id` is Tune's own name for it. None = it
        is to ask again once a trial has ended.
        """
        while not self.is_stopped:
            config = self.proposer.propose()
            if config is None:
                break
            if config == LATER:
                return None
            identity = self.identify(config)
            if identity in self.running:
                self.repeats[identity] += 1
                continue
            is_finished, outcome = self.finished(identity)
            if is_finished or identity in self.started:
                self.proposer.observe(config, self.outcomes.get(identity, outcome))
                continue
            if not self.may_start():
                self.is_cut_short = self.is_stopped = True
                break
            self.started.add(identity)
            self.running[identity] = config
            return {"trial_id": identity, "config": config.model_dump(mode="json")}
        return cast(None, Searcher.FINISHED)  # a string, which Ray's own annotation leaves out

    def stop(self) -> None:
        """Start nothing more; what runs goes on."""
        self.is_stopped = True

    def needed(self) -> Collection[str]:
        """The trials whose weights must stay, however weak they are."""
        return {*self.parents, *self.proposer.needed()}

    def ended(self, identity: str, outcome: Outcome) -> None:
        """The collector's word that a trial is recorded."""
        config = self.running.pop(identity)
        self.outcomes[identity] = outcome
        for _ in range(1 + self.repeats.pop(identity, 0)):
            self.proposer.observe(config, outcome)

    def check_ended(self) -> None:
        """CannotFinish where Tune has ended, and a trial that it was given left no record."""
        if self.running:
            lost = ", ".join(sorted(self.running))
            raise CannotFinish(
                f"trial {lost} was started and never ended: Ray Tune lost sight of it. Everything "
                "finished is kept; the same command goes on from there."
            )

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing here: outcomes come through `ended`, with the best epoch's value."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its Tuner for a restore that raylab never asks for."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state of a sweep."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""
