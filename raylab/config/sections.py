"""From a grid's raw sections to a SweepConfig: each value checked on its own, bad ones left out."""

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from raylab.config.axes import read_axes, read_exclude, read_zip
from raylab.config.fields import FIELD_KEYS, root, without_dots
from raylab.config.findings import Findings
from raylab.config.sweep import METRICS, Budget, Resources, Scheduler, Search, SweepConfig
from raylab.config.trial import Value
from raylab.config.values import check_value, unknown_field
from raylab.config.weights import PACKAGE, weights_path
from raylab.config.wording import choice_text, shown, wording

_NAME = re.compile(r"^[\w][\w .-]{0,99}$")

Section = TypeVar("Section", bound=Value)


def read_sections(grid: dict[str, Any], path: Path, findings: Findings) -> SweepConfig:
    """Everything in the grid that is sound; what is not is noted in `findings`."""
    return SweepConfig(
        name=_name(grid.get("name", path.stem), findings),
        data=grid["data"],
        trial=_trial(grid.get("trial", {}), path, findings),
        axes=_axes_with_weights(read_axes(grid.get("axes", {}), findings), path, findings),
        zip=tuple(
            _axes_with_weights(group, path, findings)
            for group in read_zip(grid.get("zip", []), findings)
        ),
        exclude=read_exclude(grid.get("exclude", []), findings),
        seeds=_seeds(grid, findings),
        search=_kind(Search, "search", grid.get("search", "grid"), findings),
        scheduler=_kind(Scheduler, "scheduler", grid.get("scheduler", "none"), findings),
        metric=_metric(grid.get("metric", "val_accuracy"), findings),
        budget=_section(Budget, ("budget",), grid.get("budget", {}), findings),
        resources=_section(Resources, ("resources",), grid.get("resources", {}), findings),
        keep=_keep(grid.get("keep", 3), findings),
    )


def _name(given: Any, findings: Findings) -> str:
    if isinstance(given, str) and _NAME.match(given):
        return given
    text = f"{shown(given)} is no name; use letters, digits, spaces, dots, dashes (up to 100)"
    findings.add(("name",), text)
    return "sweep"


def _trial(given: Any, path: Path, findings: Findings) -> dict[str, Any]:
    if not isinstance(given, dict):
        findings.add(("trial",), f"{shown(given)} is not a mapping of trial fields")
        return {}
    sound: dict[str, Any] = {}
    for key, value in given.items():
        where = ("trial", key)
        if key not in FIELD_KEYS:
            unknown_field(where, key, findings)
        elif "." in key and root(key) in given and not isinstance(given[root(key)], dict | str):
            findings.add(where, f"{root(key)} stands in trial too; write one of both")
        elif not check_value(where, key, value, findings):
            sound[key] = _weights(where, value, path, findings) if key == "pretrained" else value
    sound.pop("seed", None)
    return without_dots(sound)


def _axes_with_weights(axes: dict[str, Any], path: Path, findings: Findings) -> dict[str, Any]:
    """The axes, a `pretrained` one with whole paths."""
    axis = axes.get("pretrained", ())
    if not isinstance(axis, tuple) or not axis:
        return axes
    where = ("axes", "pretrained")
    return {**axes, "pretrained": tuple(_weights(where, v, path, findings) for v in axis)}


def _weights(where: tuple[str | int, ...], value: Any, path: Path, findings: Findings) -> Any:
    """A file's path, relative to the grid as given, made whole; `package:` and bool as they are."""
    if not isinstance(value, str):
        return value
    given = value
    if not value.startswith(PACKAGE):
        value = str((path.parent / Path(value).expanduser()).absolute())
    try:
        weights_path(value)
    except ValueError as error:
        findings.add(where, str(error).replace(repr(value), repr(given), 1))
    return value


def _seeds(grid: dict[str, Any], findings: Findings) -> tuple[int, ...]:
    given = grid.get("seeds")
    trial = grid.get("trial")
    alone = trial.get("seed") if isinstance(trial, dict) else None
    if given is None:
        return (alone,) if isinstance(alone, int) and not isinstance(alone, bool) else (0,)
    if alone is not None:
        findings.add(("trial", "seed"), "seeds stands in the grid too; write one of both")
    if not isinstance(given, list):
        findings.add(("seeds",), f"{shown(given)} is not a list of seeds; write [{shown(given)}]")
        return (0,)
    if not given:
        findings.add(("seeds",), "the list is empty; give at least one seed, such as [0]")
    sound: list[int] = []
    for index, seed in enumerate(given):
        if check_value(("seeds", index), "seed", seed, findings):
            continue
        if seed in sound:
            findings.add(("seeds", index), f"{seed} stands twice")
        sound.append(seed)
    return tuple(sound) or (0,)


def _kind(model: type[Section], key: str, given: Any, findings: Findings) -> Section:
    """`grid`, or `{random: {num_trials: 40}}`: one kind, with or without its options."""
    if isinstance(given, dict) and len(given) == 1:
        kind, values = next(iter(given.items()))
    else:
        kind, values = given, {}
    choices = model.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    if not isinstance(kind, str) or kind not in choices:
        findings.add((key,), choice_text(kind, choices))
        return model()
    if values and kind == choices[0]:
        findings.add((key,), f"{kind} takes no options; take them out or choose another {key}")
        return model()
    if values is None:
        values = {}
    if not isinstance(values, dict):
        findings.add((key, kind), f"{shown(values)} is not a mapping of options")
        return model()
    allowed = [name for name in model.model_fields if name != "kind"]
    return _section(model, (key, kind), values, findings, allowed, kind=kind)


def _section(
    model: type[Section],
    where: tuple[str, ...],
    given: Any,
    findings: Findings,
    allowed: list[str] | None = None,
    **fixed: Any,
) -> Section:
    """A pydantic section, or its default with the problems noted."""
    if not isinstance(given, dict):
        findings.add(where, f"{shown(given)} is not a mapping")
        return model()
    try:
        return model.model_validate({**given, **fixed})
    except ValidationError as error:
        findings.add_below(where, wording(error, given, allowed or model.model_fields))
        return model(**fixed)


def _metric(given: Any, findings: Findings) -> str:
    if given in METRICS:
        return str(given)
    findings.add(("metric",), choice_text(given, METRICS))
    return "val_accuracy"


def _keep(given: Any, findings: Findings) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        findings.add(("keep",), f"{shown(given)} is not a whole number")
    elif given < 0:
        findings.add(("keep",), f"{given} is not >= 0")
    else:
        return given
    return 3
