"""Population based training (Jaderberg et al. 2017): from how a generation fared to the next one.

Pure: the same sweep and the same outcomes give the same configs, whatever ended first.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.config.expand import (
    MAX_DRAWS,
    Assignment,
    config_from,
    disagreement,
    draw,
    rounded,
    sample,
)
from raylab.config.files import TRIAL
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish

STEPS = (0.8, 1.25)
"""By what a number is multiplied to explore, one or the other."""
MAX_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Member:
    """What stands at one place of the population in one generation."""

    point: Assignment
    parent: str | None = None
    """trial_id of the trial whose weights it begins with; None in the first generation."""


class Population:
    """The generations of a sweep as far as the outcomes of their trials decide them.

    An outcome is the metric's value, None for a trial that failed.
    """

    def __init__(
        self,
        sweep: SweepConfig,
        finish: Callable[[TrialConfig], TrialConfig],
        identify: Callable[[TrialConfig], str],
        outcomes: Mapping[str, float | None],
    ) -> None:
        self.sweep, self.finish, self.identify = sweep, finish, identify
        self.outcomes = dict(outcomes)
        self.generation = 0
        """The newest one, 1-based."""
        self.trials: dict[str, TrialConfig] = {}
        """Of the newest generation, by trial_id in the order of their places."""
        self._begin(first_generation(sweep))

    def _begin(self, members: Sequence[Member]) -> None:
        self.generation += 1
        self.members = members
        found = [
            self.finish(config_of(self.sweep, member, self.generation, place))
            for place, member in enumerate(members)
        ]
        self.trials = {self.identify(config): config for config in found}

    @property
    def open(self) -> dict[str, TrialConfig]:
        """The trials of the newest generation that have not ended."""
        return {name: config for name, config in self.trials.items() if name not in self.outcomes}

    def grow(self) -> bool:
        """Begin the next generation; False where there is none, or none yet."""
        if self.open or self.generation == self.sweep.search.generations:
            return False
        ids = list(self.trials)
        outcomes = [self.outcomes[name] for name in ids]
        members = next_generation(self.sweep, self.generation + 1, self.members, ids, outcomes)
        if members:
            self._begin(members)
        return bool(members)

    def parents(self) -> set[str]:
        """The trials with whose weights those that have not ended begin."""
        members = zip(self.trials, self.members, strict=True)
        return {m.parent for name, m in members if m.parent and name not in self.outcomes}

    def needed(self) -> set[str]:
        """The trials whose weights this generation or the next begins with, as far as is known."""
        is_last = self.generation == self.sweep.search.generations
        return self.parents() | (set() if is_last else set(self.trials))

    def configs(self) -> Iterator[TrialConfig]:
        """Every trial of the generations from this one on, as far as they are decided."""
        yield from self.trials.values()
        while self.grow():
            yield from self.trials.values()


def config_of(sweep: SweepConfig, member: Member, generation: int, place: int) -> TrialConfig:
    """The member's trial. Each of the whole search has a seed of its own: no two are one trial, and
    no generation repeats the order of the images.
    """
    seed = sweep.seeds[0] + (generation - 1) * (sweep.search.population or 0) + place
    begins = {"pretrained": f"{TRIAL}{member.parent}", "pretrained_digest": ""}
    point = {**member.point, **(begins if member.parent else {})}
    return config_from(sweep, point, seed % MAX_SEEDS)


def first_generation(sweep: SweepConfig) -> list[Member]:
    """Random draws; another first seed gives others."""
    population = sweep.search.population or 0
    first = sweep.seeds[0] * population
    return [Member(sample(sweep, first + place)) for place in range(population)]


def next_generation(
    sweep: SweepConfig,
    generation: int,
    members: Sequence[Member],
    ids: Sequence[str],
    outcomes: Sequence[float | None],
) -> list[Member]:
    """The `generation`-th from what its predecessors, by place, came to; empty where all failed.

    Those that failed, and the worst `quantile` of all, give way to copies of one of the best.
    """
    sign = 1 if sweep.mode == "max" else -1
    values = {place: value for place, value in enumerate(outcomes) if value is not None}
    ranked = sorted(values, key=lambda place: (-sign * values[place], place))
    num = max(1, int(sweep.search.quantile * len(members)))
    best, going_on = ranked[:num], set(ranked[: len(members) - num])
    found = []
    for place in range(len(members) if best else 0):
        if place in going_on:
            found.append(Member(members[place].point, ids[place]))
            continue
        stream = random.Random(f"{sweep.seeds[0]} {generation} {place}")
        copied = stream.choice(best)
        found.append(Member(explored(sweep, members[copied].point, stream), ids[copied]))
    return found


def explored(sweep: SweepConfig, point: Assignment, stream: random.Random) -> Assignment:
    """The point with every axis moved; where fields then disagree, it is moved again."""
    chance = sweep.search.resample_probability
    for _ in range(MAX_DRAWS):
        moved = {
            key: draw(axis, stream) if stream.random() < chance else step(axis, point[key], stream)
            for key, axis in sweep.axes.items()
        }
        if disagreement(sweep, moved) is None:
            return moved
    raise CannotFinish(f"no allowed config in {MAX_DRAWS} steps from {point}; loosen the axes")


def step(axis: tuple[Any, ...] | Distribution, value: Any, stream: random.Random) -> Any:
    """A neighbour of the value: the next in its list, or a fifth less or a quarter more."""
    if not isinstance(axis, Distribution):
        at = axis.index(value)
        neighbours = [near for near in (at - 1, at + 1) if 0 <= near < len(axis)]
        return axis[stream.choice(neighbours)] if neighbours else value
    factor = stream.choice(STEPS)
    if axis.kind != "randint":
        return rounded(axis, value * factor)
    moved = round(value * factor)
    if moved == value:  # of a small number a fifth is nothing
        moved += 1 if factor > 1 else -1
    return min(max(moved, int(axis.low)), int(axis.high) - 1)
