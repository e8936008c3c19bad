"""Which values the fields of a sweep can take, told from its axes alone: no trial is built."""

from typing import Any

from raylab.config.expand import fixed_axes, swept
from raylab.config.fields import coerce, root
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig


def moved_fields(sweep: SweepConfig) -> tuple[str, ...]:
    """The flat names of the fields that axes move: `augment` of `augment.flip`, every `split.…` of
    `split`.
    """
    keys = swept(sweep)
    return tuple(
        name
        for name in TrialConfig().flat()
        if name in keys or root(name) in keys or name in map(root, keys)
    )


def first_assignment(sweep: SweepConfig) -> dict[str, Any]:
    """The first value of everything that is listed."""
    first = {key: values[0] for key, values in fixed_axes(sweep).items()}
    return first | {key: values[0] for group in sweep.zip for key, values in group.items()}


def others(sweep: SweepConfig, names: set[str]) -> dict[str, list[Any]]:
    """Of each whole field that is none of `names` the values of its axis, of a range its end."""
    axes = sweep.axes | {key: axis for group in sweep.zip for key, axis in group.items()}
    return {
        key: [axis.high] if isinstance(axis, Distribution) else [coerce(key, v) for v in axis]
        for key, axis in axes.items()
        if key in TrialConfig.model_fields and key not in names
    }


def possible(sweep: SweepConfig, field: str) -> set[Any]:
    """All values that a field without a range can take in the sweep."""
    listed = [fixed_axes(sweep), *sweep.zip]
    axis = next((values[field] for values in listed if field in values), None)
    base = sweep.trial.get(field, TrialConfig.model_fields[field].default)
    return {*(axis or [base]), *(lever[field] for lever in sweep.levers if field in lever)}


def possible_values(sweep: SweepConfig, field: str, base: int) -> list[int]:
    """All values that a whole-number field can take in the sweep."""
    listed = fixed_axes(sweep) | {key: v for group in sweep.zip for key, v in group.items()}
    if field in listed:
        return sorted(set(listed[field]))
    axis = sweep.axes.get(field)
    if isinstance(axis, Distribution):
        return list(range(int(axis.low), int(axis.high)))
    return [base]
