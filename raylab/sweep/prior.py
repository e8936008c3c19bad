"""From the records of an earlier sweep to what Optuna knows before it draws for the first time."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from raylab.config.fields import coerce, value_at
from raylab.config.files import parent_of
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.results.record import Record
from raylab.results.winners import ranked_families
from raylab.sweep.draws import drawn_for


def earlier_points(
    sweep: SweepConfig, records: Iterable[Record]
) -> list[tuple[dict[str, Any], float]]:
    """What Optuna would have had to draw for each family, and the mean of the metric there.

    Families that the axes do not allow are passed over, as those that went on from another trial's
    weights, which have more epochs behind them than their config says; whatever else they differ in
    is not asked, so that a quick sweep can open the way for a slow one.
    """
    found = []
    alone = (
        record for record in records if parent_of(str(record.config.get("pretrained"))) is None
    )
    for family in ranked_families(alone, sweep.metric):
        assignment = assignment_in(sweep, family.first)
        drawn = None if assignment is None else drawn_for(sweep, assignment)
        if drawn is not None:
            found.append((drawn, family.mean))
    return found


def assignment_in(sweep: SweepConfig, record: Record) -> dict[str, Any] | None:
    """The record's config as values of the sweep's axes; None where it is on none of their points.

    A value is given as the grid writes it: `light`, not what the preset stands for.
    """
    try:
        config = TrialConfig.model_validate(record.trial)
        assignment: dict[str, Any] = {}
        for key, axis in sweep.axes.items():
            assignment[key] = _on_axis(key, axis, value_at(config, key))
        for group in sweep.zip:
            wanted = [value_at(config, key) for key in group]
            rows = zip(*group.values(), strict=True)
            meant = (row for row in rows if _meaning(tuple(group), row) == wanted)
            assignment.update(zip(group, next(meant), strict=True))
    except (ValidationError, AttributeError, LookupError, ValueError, StopIteration):
        return None
    return assignment


def _on_axis(key: str, axis: tuple[Any, ...] | Distribution, value: Any) -> Any:
    """The axis's own value; LookupError where it has none like it."""
    if not isinstance(axis, Distribution):
        return axis[[coerce(key, given) for given in axis].index(value)]
    last = axis.high - 1 if axis.kind == "randint" else axis.high
    if not axis.low <= value <= last:
        raise LookupError(key)
    return value


def _meaning(keys: tuple[str, ...], row: tuple[Any, ...]) -> list[Any]:
    return [coerce(key, value) for key, value in zip(keys, row, strict=True)]
