"""Of a search that decides as it goes: what it drew in an earlier run, and what it may draw; loads
no Optuna.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from raylab.config.builder import Finish
from raylab.config.expand import config_from, decisive, draws, replicas
from raylab.config.fields import root
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig

NUM_EXAMPLES = 24
"""No more kinds of trial than a probe takes."""


def assignment_of(sweep: SweepConfig, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna drew, as the values of trial fields."""
    assignment: dict[str, Any] = {}
    for key, axis in sweep.axes.items():
        assignment[key] = drawn[key] if isinstance(axis, Distribution) else axis[drawn[key]]
    for place, group in enumerate(sweep.zip):
        row = drawn[f"zip {place}"]
        assignment.update({key: values[row] for key, values in group.items()})
    return assignment


def drawn_for(sweep: SweepConfig, assignment: Mapping[str, Any]) -> dict[str, Any] | None:
    """What Optuna would have to draw for the assignment; None where the axes no longer allow it."""
    drawn: dict[str, Any] = {}
    try:
        for key, axis in sweep.axes.items():
            value = assignment[key]
            drawn[key] = value if isinstance(axis, Distribution) else axis.index(value)
        for place, group in enumerate(sweep.zip):
            rows = list(zip(*group.values(), strict=True))
            drawn[f"zip {place}"] = rows.index(tuple(assignment[key] for key in group))
    except (KeyError, ValueError):
        return None
    return drawn if assignment_of(sweep, drawn) == assignment else None


def runs_of(sweep: SweepConfig, assignment: Mapping[str, Any], finish: Finish) -> list[TrialConfig]:
    """The draw with every seed and fold; ValidationError where its fields disagree."""
    runs = replicas(sweep, dict(assignment))
    return [finish(config_from(sweep, point, seed)) for point, seed in runs]


def recalled(
    sweep: SweepConfig, assignments: Iterable[Mapping[str, Any]], finish: Finish
) -> list[TrialConfig]:
    """The trials of what an earlier run drew, as far as the axes still allow it, in order."""
    found: list[TrialConfig] = []
    for assignment in assignments:
        if drawn_for(sweep, assignment) is not None:
            with suppress(ValidationError):
                found += runs_of(sweep, assignment, finish)
    return found


def draws_over(sweep: SweepConfig, fields: frozenset[str], finish: Finish) -> list[TrialConfig]:
    """Different draws over the axes of these fields, always the same ones: every point where there
    are few. Other fields stay at what `trial` says.
    """
    zipped = {root(key) for group in sweep.zip for key in group}  # a row counts as often as it is
    part = decisive(sweep, fields | zipped)
    search = part.search.model_copy(update={"num_trials": NUM_EXAMPLES})
    points = draws(part.model_copy(update={"search": search}))
    return [finish(config_from(part, point, part.seeds[0])) for point in points]
