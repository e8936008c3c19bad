"""From a sweep to its trial configs; pure: the same sweep gives the same configs in order."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from raylab.config.fields import coerce, overlay, root, roots, value_at
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish

Assignment = dict[str, Any]
"""Dotted trial field → value as given; what one point of the grid sets on top of `trial`."""

_MAX_DRAWS = 1000
CROSS_CHECKED = {"split", "augment", "epochs", "warmup_epochs"}
"""Fields that trial.py checks against each other."""


def config_from(sweep: SweepConfig, assignment: Mapping[str, Any], seed: int) -> TrialConfig:
    """The trial at one point of the sweep; raises pydantic's ValidationError if fields disagree."""
    values = overlay(sweep.trial, {key: _plain(value) for key, value in assignment.items()})
    return TrialConfig.model_validate({**values, "seed": seed})


def assignments(sweep: SweepConfig) -> Iterator[Assignment]:
    """Every point of the grid, exclusions not yet applied; the last axis moves fastest."""
    parts = [[{key: value} for value in _values(axis)] for key, axis in sweep.axes.items()]
    parts += [
        [dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)]
        for group in sweep.zip
    ]
    for combination in itertools.product(*parts):
        yield {key: value for part in combination for key, value in part.items()}


def num_points(sweep: SweepConfig) -> int:
    """Size of the product, exclusions not applied, seeds not counted."""
    sizes = [len(_values(axis)) for axis in sweep.axes.values()]
    sizes += [len(next(iter(group.values()))) for group in sweep.zip if group]
    return math.prod(sizes)


def count_trials(sweep: SweepConfig) -> int:
    """How many trials the sweep asks for; nothing is built unless `exclude` has to be asked."""
    if sweep.search.num_trials is not None:
        return sweep.search.num_trials * len(sweep.seeds)
    if not sweep.exclude:
        return num_points(sweep) * len(sweep.seeds)
    is_excluded = exclusion(sweep)
    points = itertools.product(assignments(sweep), sweep.seeds)
    return sum(not is_excluded(point, seed) for point, seed in points)


def expand(sweep: SweepConfig) -> Iterator[TrialConfig]:
    """The trials of a grid search, seeds innermost."""
    is_excluded = exclusion(sweep)
    for point in assignments(sweep):
        for seed in sweep.seeds:
            if not is_excluded(point, seed):
                yield config_from(sweep, point, seed)


def sample(sweep: SweepConfig, i: int) -> Assignment:
    """The i-th draw of random search: always the same for one sweep and i.

    Each axis has its own stream, so that adding an axis leaves the other values as they were.
    Draws that are excluded, or whose fields disagree, are drawn again.
    """
    is_excluded = exclusion(sweep)
    for attempt in range(_MAX_DRAWS):
        drawn: Assignment = {}
        for key, axis in sweep.axes.items():
            drawn[key] = _draw(axis, random.Random(f"{key} {i} {attempt}"))
        for group in sweep.zip:
            rows = list(zip(*group.values(), strict=True))
            stream = random.Random(f"{' '.join(group)} {i} {attempt}")
            drawn.update(zip(group, stream.choice(rows), strict=True))
        if any(is_excluded(drawn, seed) for seed in sweep.seeds):
            continue
        if _agrees(sweep, drawn):
            return drawn
    raise CannotFinish(f"no allowed config in {_MAX_DRAWS} draws; loosen exclude or the axes")


def differing_fields(configs: Iterable[TrialConfig]) -> list[str]:
    """Flat names of the fields in which the configs differ, in the config's order."""
    rows = [config.flat() for config in configs]
    return [key for key in (rows[0] if rows else ()) if len({row[key] for row in rows}) > 1]


def exclusion(sweep: SweepConfig) -> Callable[[Mapping[str, Any], int], bool]:
    """A test whether a point with a seed is left out, remembered per relevant part of the point."""
    if not sweep.exclude:
        return lambda point, seed: False
    partials = [{key: coerce(key, v) for key, v in p.items()} for p in sweep.exclude]
    relevant = roots(key for partial in partials for key in partial) | CROSS_CHECKED
    known: dict[str, bool] = {}

    def is_excluded(point: Mapping[str, Any], seed: int) -> bool:
        part = {key: value for key, value in point.items() if root(key) in relevant}
        memo = json.dumps([part, seed if "seed" in relevant else 0], default=str)
        if memo not in known:
            known[memo] = any(_matches(sweep, part, seed, partial) for partial in partials)
        return known[memo]

    return is_excluded


def disagreement(sweep: SweepConfig, point: Mapping[str, Any]) -> ValidationError | None:
    """The error of a point whose fields are each fine but do not fit together, or None."""
    try:
        config_from(sweep, point, 0)
    except ValidationError as error:
        return error
    return None


def cross_checked(point: Mapping[str, Any]) -> Assignment:
    """The part of the point that can make fields disagree."""
    return {key: value for key, value in point.items() if root(key) in CROSS_CHECKED}


def _agrees(sweep: SweepConfig, point: Mapping[str, Any]) -> bool:
    return disagreement(sweep, point) is None


def _matches(
    sweep: SweepConfig, point: Mapping[str, Any], seed: int, partial: Mapping[str, Any]
) -> bool:
    try:
        config = config_from(sweep, point, seed)
    except ValidationError:  # it does not fit together: compare what was given
        given = {**point, "seed": seed}
        return all(key in given and coerce(key, given[key]) == partial[key] for key in partial)
    return all(value_at(config, key) == value for key, value in partial.items())


def _values(axis: tuple[Any, ...] | Distribution) -> tuple[Any, ...]:
    if isinstance(axis, Distribution):
        raise TypeError("a distribution has no list of values; it is drawn from")
    return axis


def _draw(axis: tuple[Any, ...] | Distribution, stream: random.Random) -> Any:
    if not isinstance(axis, Distribution):
        return stream.choice(axis)
    if axis.kind == "randint":
        return stream.randrange(int(axis.low), int(axis.high))
    if axis.kind == "loguniform":
        drawn = math.exp(stream.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        drawn = stream.uniform(axis.low, axis.high)
    # Six digits say all that a draw says, and read well in a leaderboard.
    return min(max(float(f"{drawn:.6g}"), axis.low), axis.high)


def _plain(value: Any) -> Any:
    """numpy scalars, as search algorithms suggest them, as Python numbers."""
    return value.item() if hasattr(value, "item") else value
