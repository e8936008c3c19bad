"""From a sweep to its trial configs; pure: the same sweep gives the same configs in order."""

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from raylab.config.builder import ConfigBuilder, Finish, memo_of, plain
from raylab.config.fields import coerce, overlay, root, value_at
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import MAX_FOLDS, SplitConfig, TrialConfig
from raylab.errors import CannotFinish

Assignment = dict[str, Any]
"""Dotted trial field → value as given; what one point of the grid sets on top of `trial`."""

MAX_DRAWS = 1000
CROSS_CHECKED = {"split", "augment", "epochs", "warmup_epochs", "ema_decay", "swa_frac"}
"""Fields that trial.py checks against each other."""


def config_from(sweep: SweepConfig, assignment: Mapping[str, Any], seed: int) -> TrialConfig:
    """The trial at one point of the sweep; raises pydantic's ValidationError if fields disagree."""
    values = overlay(sweep.trial, {key: plain(value) for key, value in assignment.items()})
    return TrialConfig.model_validate({**values, "seed": seed})


def replicas(sweep: SweepConfig, point: Assignment) -> Iterator[tuple[Assignment, int]]:
    """The (point, seed) pairs that one config is run as: every seed with every fold."""
    folds = _folds(sweep, point)
    points = [{**point, "split.fold": fold} for fold in range(folds)] if folds > 1 else [point]
    return ((each, seed) for seed in sweep.seeds for each in points)


def assignments(sweep: SweepConfig) -> Iterator[Assignment]:
    """Every point of the grid, exclusions not yet applied; the last axis moves fastest."""
    parts = [[{key: value} for value in _values(axis)] for key, axis in sweep.axes.items()]
    parts += [
        [dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)]
        for group in sweep.zip
    ]
    if sweep.levers:
        parts.append([{}, *sweep.levers])
    for combination in itertools.product(*parts):
        yield {key: value for part in combination for key, value in part.items()}


def num_points(sweep: SweepConfig) -> int:
    """Size of the product, exclusions not applied, seeds and folds not counted."""
    sizes = [len(_values(axis)) for axis in sweep.axes.values()]
    sizes += [len(next(iter(group.values()))) for group in sweep.zip if group]
    return math.prod(sizes) * (len(sweep.levers) + 1)


def count_trials(sweep: SweepConfig) -> int:
    """How many trials the sweep asks for; nothing is built unless `exclude` has to be asked."""
    if sweep.search.kind == "pbt":
        return (sweep.search.population or 0) * (sweep.search.generations or 0)
    if sweep.search.kind == "optuna":
        return (sweep.search.num_trials or 0) * num_replicas(sweep)
    if sweep.search.kind == "random":
        parts_replicas = any({"seed", "split.fold"} & partial.keys() for partial in sweep.exclude)
        if parts_replicas or fold_axes(sweep):
            return sum(1 for _ in _runs(sweep, draws(sweep)))
        return count_draws(sweep) * num_replicas(sweep)
    if not sweep.exclude:
        return num_product(sweep)
    part = decisive(sweep)
    times = num_product(sweep) // num_product(part)  # each of the part's stands equally often
    return times * sum(1 for _ in _runs(part, assignments(part)))


def num_product(sweep: SweepConfig) -> int:
    """Trials of the whole product, seeds and folds counted, exclusions not applied."""
    keys = fold_axes(sweep)
    if not keys:
        return num_points(sweep) * num_replicas(sweep)
    # The folds follow from these axes alone, and each of their points stands equally often.
    part = _with_axes(sweep, keys.__contains__)
    times = num_points(sweep) // num_points(part)
    return times * sum(num_replicas(sweep, point) for point in assignments(part))


def num_replicas(sweep: SweepConfig, point: Assignment | None = None) -> int:
    """Trials that one config is run as."""
    return max(_folds(sweep, point or {}), 1) * len(sweep.seeds)


def split_choices(sweep: SweepConfig) -> list[SplitConfig]:
    """Every split that the listed axes make, one fold of each; exclusions are not applied, and
    ranges stay at what `trial` says.
    """
    listed = {key: axis for key, axis in sweep.axes.items() if isinstance(axis, tuple)}
    part = _with_axes(sweep.model_copy(update={"axes": listed}), lambda key: root(key) == "split")
    found: dict[SplitConfig, None] = {}
    for point in assignments(part):
        with contextlib.suppress(ValidationError):  # left out by an exclusion, or told elsewhere
            found[config_from(part, point, 0).split] = None
    return list(found)


def fold_axes(sweep: SweepConfig) -> list[str]:
    """The axes that decide how many folds a config is run as."""
    return [key for key in swept(sweep) if key in ("split", "split.folds", "split.fold")]


def swept(sweep: SweepConfig) -> list[str]:
    """The dotted fields that move, zipped ones and those of levers included."""
    moved = [*sweep.axes, *(key for group in sweep.zip for key in group)]
    return list(dict.fromkeys([*moved, *(key for lever in sweep.levers for key in lever)]))


def values_of(sweep: SweepConfig, key: str) -> list[Any]:
    """Every value that the sweep itself gives the field: under trial, on a listed axis, by a
    lever.
    """
    parts = [sweep.trial, *sweep.levers]
    groups = [fixed_axes(sweep), *sweep.zip]
    given = [part[key] for part in parts if key in part]
    return [*given, *(value for group in groups for value in group.get(key, ()))]


def fixed_axes(sweep: SweepConfig) -> dict[str, tuple[Any, ...]]:
    """The axes that are lists of values."""
    return {k: axis for k, axis in sweep.axes.items() if not isinstance(axis, Distribution)}


def decisive(sweep: SweepConfig, also: frozenset[str] = frozenset()) -> SweepConfig:
    """The sweep over what decides whether its points are sound, left out, and how often run, and
    over the fields of `also`; with the first seed alone where none is told from the others.
    """
    names = _excluding(sweep) | CROSS_CHECKED | also
    part = _with_axes(sweep, lambda key: root(key) in names)
    return part if "seed" in names else part.model_copy(update={"seeds": sweep.seeds[:1]})


def builder(sweep: SweepConfig, finish: Finish | None = None) -> ConfigBuilder:
    """`finish` of `config_from` for very many points of the sweep."""
    return ConfigBuilder(sweep.trial, _settable(sweep), finish)


def expand(sweep: SweepConfig, finish: Finish | None = None) -> Iterator[TrialConfig]:
    """The trials of a grid or random search, each finished, seeds and folds innermost."""
    build = builder(sweep, finish)
    points = draws(sweep) if sweep.search.kind == "random" else assignments(sweep)
    return itertools.starmap(build, _runs(sweep, points))


def _runs(sweep: SweepConfig, points: Iterable[Assignment]) -> Iterator[tuple[Assignment, int]]:
    """The (point, seed) pairs that are run of these points: all that are not left out."""
    is_excluded = exclusion(sweep)
    for point in points:
        for each, seed in replicas(sweep, point):
            if not is_excluded(each, seed):
                yield each, seed


def draws(sweep: SweepConfig) -> Iterator[Assignment]:
    """The points of a random search, each once; fewer than it asks for where no more are found."""
    known: set[Hashable] = set()
    for i in range(sweep.search.num_trials or 0):
        drawn = _new_draw(sweep, i, known) if known else sample(sweep, i)
        if drawn is None:
            return
        known.add(memo_of(drawn, drawn))
        yield drawn


def count_draws(sweep: SweepConfig) -> int:
    """How many points a random search has; nothing is drawn where a range never runs out."""
    axes = [axis for axis in sweep.axes.values() if isinstance(axis, Distribution)]
    if any(axis.kind != "randint" for axis in axes):
        return sweep.search.num_trials or 0
    return sum(1 for _ in draws(sweep))


def sample(sweep: SweepConfig, i: int) -> Assignment:
    """The i-th draw of random search: always the same for one sweep and i.

    Each axis has its own stream, so that adding an axis leaves the other values as they were.
    Draws that are excluded with every seed and fold, or whose fields disagree, are drawn again.
    """
    drawn = _new_draw(sweep, i, frozenset())
    if drawn is None:
        raise CannotFinish(f"no allowed config in {MAX_DRAWS} draws; loosen exclude or the axes")
    return drawn


def _new_draw(sweep: SweepConfig, i: int, known: Container[Hashable]) -> Assignment | None:
    """The i-th draw that is allowed and not `known`; None where none is found."""
    is_excluded = exclusion(sweep)
    for attempt in range(MAX_DRAWS):
        drawn: Assignment = {}
        for key, axis in sweep.axes.items():
            drawn[key] = draw(axis, random.Random(f"{key} {i} {attempt}"))
        for group in sweep.zip:
            rows = list(zip(*group.values(), strict=True))
            stream = random.Random(f"{' '.join(group)} {i} {attempt}")
            drawn.update(zip(group, stream.choice(rows), strict=True))
        if memo_of(drawn, drawn) in known:
            continue
        if all(itertools.starmap(is_excluded, replicas(sweep, drawn))):
            continue
        if _agrees(sweep, drawn):
            return drawn
    return None


def exclusion(sweep: SweepConfig) -> Callable[[Mapping[str, Any], int], tuple[int, ...]]:
    """By which of `exclude`, if any, a point with a seed is left out, remembered per relevant part
    of the point.
    """
    if not sweep.exclude:
        return lambda point, seed: ()
    partials = [{key: coerce(key, v) for key, v in p.items()} for p in sweep.exclude]
    relevant = _excluding(sweep) | CROSS_CHECKED
    keys = [key for key in _settable(sweep) if root(key) in relevant]
    known: dict[tuple[Hashable, int], tuple[int, ...]] = {}

    def excluded_by(point: Mapping[str, Any], seed: int) -> tuple[int, ...]:
        memo = memo_of(point, keys), seed if "seed" in relevant else 0
        if memo not in known:
            part = {key: point[key] for key in keys if key in point}
            known[memo] = _matching(sweep, part, seed, partials)
        return known[memo]

    return excluded_by


def idle_exclusions(sweep: SweepConfig) -> list[int]:
    """Which of `exclude` leave nothing out; none where that hangs on what a range gives."""
    part = decisive(sweep)
    idle = set(range(len(sweep.exclude)))
    if not idle or any(isinstance(axis, Distribution) for axis in part.axes.values()):
        return []
    excluded_by = exclusion(part)
    for point in assignments(part):
        for run in replicas(part, point):
            idle -= set(excluded_by(*run))
        if not idle:
            break
    return sorted(idle)


def _excluding(sweep: SweepConfig) -> set[str]:
    """The whole fields that `exclude` speaks of."""
    return {root(key) for partial in sweep.exclude for key in partial}


def _settable(sweep: SweepConfig) -> tuple[str, ...]:
    """Every dotted field that a point may set: the axes, and the fold that `replicas` adds."""
    return tuple(dict.fromkeys([*swept(sweep), "split.fold"]))


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


def _folds(sweep: SweepConfig, point: Assignment) -> int:
    """How many folds the config is run as: 0 where it has none, or asks for one of them."""
    split = overlay(sweep.trial, point).get("split", {})
    if not isinstance(split, Mapping) or "fold" in split:
        return 0
    folds = plain(split.get("folds", 0))
    return folds if isinstance(folds, int) and 1 < folds <= MAX_FOLDS else 0


def _with_axes(sweep: SweepConfig, is_kept: Callable[[str], bool]) -> SweepConfig:
    """The sweep over some of its axes only."""
    groups = [{k: values for k, values in group.items() if is_kept(k)} for group in sweep.zip]
    axes = {key: axis for key, axis in sweep.axes.items() if is_kept(key)}
    levers = [{k: value for k, value in lever.items() if is_kept(k)} for lever in sweep.levers]
    left = {"axes": axes, "zip": tuple(filter(None, groups)), "levers": ()}
    # All of them or none: each point of what is left has to stand equally often.
    return sweep.model_copy(update=left | ({"levers": tuple(levers)} if any(levers) else {}))


def _agrees(sweep: SweepConfig, point: Mapping[str, Any]) -> bool:
    return disagreement(sweep, point) is None


def _matching(
    sweep: SweepConfig,
    point: Mapping[str, Any],
    seed: int,
    partials: Sequence[Mapping[str, Any]],
) -> tuple[int, ...]:
    """The places of the partial configs with which the point agrees."""
    given, config = {**sweep.trial, **point, "seed": seed}, None
    with contextlib.suppress(ValidationError):
        config = config_from(sweep, point, seed)

    def agrees(key: str, value: Any) -> bool:
        if config is not None:
            return bool(value_at(config, key) == value)
        # It does not fit together: compare what was given.
        return key in given and bool(coerce(key, given[key]) == value)

    found = enumerate(partials)
    return tuple(i for i, partial in found if all(itertools.starmap(agrees, partial.items())))


def _values(axis: tuple[Any, ...] | Distribution) -> tuple[Any, ...]:
    if isinstance(axis, Distribution):
        raise TypeError("a distribution has no list of values; it is drawn from")
    return axis


def draw(axis: tuple[Any, ...] | Distribution, stream: random.Random) -> Any:
    """A value of the axis."""
    if not isinstance(axis, Distribution):
        return stream.choice(axis)
    if axis.kind == "randint":
        return stream.randrange(int(axis.low), int(axis.high))
    if axis.kind == "loguniform":
        drawn = math.exp(stream.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        drawn = stream.uniform(axis.low, axis.high)
    return rounded(axis, drawn)


def rounded(axis: Distribution, value: float) -> float:
    """Six digits say all that a draw says, and read well in a leaderboard."""
    return min(max(float(f"{value:.6g}"), axis.low), axis.high)
