"""Axes and levers that change nothing, since the source itself names the sides."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from raylab.config.expand import split_choices
from raylab.config.fields import coerce, root
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import SplitConfig
from raylab.errors import Problem
from raylab.images.split import idle_keys

Axis = tuple[Any, ...] | Distribution


def overruled(
    sweep: SweepConfig,
    splits: Iterable[SplitConfig],
    images: pa.Table,
    resolve: Callable[[SplitConfig], SplitConfig],
) -> Iterator[Problem]:
    """A problem for each of them. `splits` are the sweep's, resolved as `resolve` does."""
    idle = _idle(sweep, splits, images)
    axes = [(f"axes.{key}", key, axis) for key, axis in sweep.axes.items()]
    for index, group in enumerate(sweep.zip):
        axes += [(f"zip[{index}].{key}", key, values) for key, values in group.items()]
    for place, key, axis in axes:
        if not _is_fixed(axis) and _keys_of(key, axis) <= idle:
            yield _problem(place)
    for index, lever in enumerate(sweep.levers):
        pulled = {key: (value,) for key, value in lever.items() if root(key) == "split"}
        if not pulled:
            continue
        part = sweep.model_copy(update={"axes": {**sweep.axes, **pulled}, "levers": ()})
        idle = _idle(sweep, map(resolve, split_choices(part)), images)
        for key, values in pulled.items():
            if _keys_of(key, values) <= idle:
                yield _problem(f"levers[{index}].{key}")


def _problem(place: str) -> Problem:
    text = (
        "the source names its train, val and test images, so that this value changes nothing; "
        "take it out, or set split.strategy: stratified"
    )
    return Problem(place, text)


def _idle(sweep: SweepConfig, splits: Iterable[SplitConfig], images: pa.Table) -> set[str]:
    """The fields that change nothing in one of the splits, or in all of them where the grid leaves
    trials out: maybe just those in which nothing would change.
    """
    found = [idle_keys(split, images) for split in splits]
    return set.intersection(*found) if sweep.exclude and found else set().union(*found)


def _is_fixed(axis: Axis) -> bool:
    """Whether there is nothing to choose from."""
    return isinstance(axis, tuple) and len(axis) == 1


def _keys_of(key: str, axis: Axis) -> set[str]:
    """The dotted fields that the axis sets: itself, or of `split` those that its values say."""
    if key != "split" or isinstance(axis, Distribution):
        return {key}
    return {f"split.{name}" for value in axis for name in coerce(key, value).model_fields_set}
