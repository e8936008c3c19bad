"""From a grid's raw sections to a SweepConfig: each value checked on its own, bad ones left out."""

import os
import re
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from raylab.config.axes import read_axes, read_exclude, read_levers, read_zip
from raylab.config.fields import FIELD_KEYS, root, without_dots
from raylab.config.files import FILES, PACKAGE, check_trial, located, parent_of, path_of
from raylab.config.findings import Findings
from raylab.config.sweep import (
    METRICS,
    SEARCH_OPTIONS,
    Budget,
    LoggerName,
    Resources,
    Scheduler,
    Search,
    SweepConfig,
)
from raylab.config.trial import Value
from raylab.config.values import check_value, unknown_field
from raylab.config.wording import choice_text, shown, wording

_NAME = re.compile(r"^[\w][\w .-]{0,99}$")

Section = TypeVar("Section", bound=Value)


def read_sections(grid: dict[str, Any], base: Path | None, findings: Findings) -> SweepConfig:
    """Everything in the grid that is sound; what is not is noted in `findings`. Relative files lie
    below `base`; without it all are whole paths, which are looked for when a trial needs them.
    """
    return SweepConfig(
        name=_name(grid.get("name", "sweep"), findings),
        data=grid["data"],
        trial=_trial(grid.get("trial", {}), base, findings),
        axes=_axes_with_files(read_axes(grid.get("axes", {}), findings), base, findings),
        zip=tuple(
            _axes_with_files(group, base, findings)
            for group in read_zip(grid.get("zip", []), findings)
        ),
        levers=_each_with_files(
            "levers", read_levers(grid.get("levers", []), findings), base, findings
        ),
        exclude=_each_with_files(
            "exclude", read_exclude(grid.get("exclude", []), findings), base, findings
        ),
        seeds=_seeds(grid, findings),
        search=_search(grid.get("search", "grid"), base, findings),
        scheduler=_kind(Scheduler, "scheduler", grid.get("scheduler", "none"), findings),
        metric=_metric(grid.get("metric", "val_accuracy"), findings),
        budget=_section(Budget, ("budget",), grid.get("budget", {}), findings),
        resources=_section(Resources, ("resources",), grid.get("resources", {}), findings),
        keep=_keep(grid.get("keep", 3), findings),
        loggers=_loggers(grid.get("loggers", []), findings),
    )


def _name(given: Any, findings: Findings) -> str:
    if isinstance(given, str) and _NAME.match(given):
        return given
    text = f"{shown(given)} is no name; use letters, digits, spaces, dots, dashes (up to 100)"
    findings.add(("name",), text)
    return "sweep"


def _trial(given: Any, base: Path | None, findings: Findings) -> dict[str, Any]:
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
        elif "." in key and key in _nested(root(key), given.get(root(key))):
            findings.add(where, f"stands inside {root(key)} too; write one of both")
        elif not check_value(where, key, value, findings):
            sound[key] = _file(where, key, value, base, findings)
    sound.pop("seed", None)
    return without_dots(sound)


def _nested(field: str, given: Any) -> list[str]:
    """The dotted names that a whole field sets: `augment.preset` of `light`."""
    names = given if isinstance(given, dict) else ["preset"] if isinstance(given, str) else []
    return [f"{field}.{name}" for name in names]


def _axes_with_files(axes: dict[str, Any], base: Path | None, findings: Findings) -> dict[str, Any]:
    """The axes, those of files with whole paths."""
    return {
        key: tuple(_file(("axes", key), key, value, base, findings) for value in axis)
        if isinstance(axis, tuple)
        else axis
        for key, axis in axes.items()
    }


def _each_with_files(
    section: str, partials: tuple[dict[str, Any], ...], base: Path | None, findings: Findings
) -> tuple[dict[str, Any], ...]:
    """The section's partial configs, files with whole paths."""
    return tuple(
        {key: _file((section, i, key), key, value, base, findings) for key, value in part.items()}
        for i, part in enumerate(partials)
    )


def _file(
    where: tuple[str | int, ...], key: str, value: Any, base: Path | None, findings: Findings
) -> Any:
    """A file's path, relative to `base` as given, made whole; every other value as it is."""
    if base is None or key not in FILES or not isinstance(value, str) or not value:
        return value
    given = value
    is_trial = key == "pretrained" and parent_of(value) is not None
    if not is_trial and not value.startswith(PACKAGE):
        value = located(base, value)
    try:
        if is_trial:  # whose weights are looked for when they are needed
            check_trial(value)
        else:
            path_of(key, value)
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


def _search(given: Any, base: Path | None, findings: Findings) -> Search:
    """The search, what it starts from with its whole path."""
    search = _kind(Search, "search", given, findings)
    for option in sorted(search.model_fields_set - {"kind", "warm_start"}):
        if option not in SEARCH_OPTIONS[search.kind]:
            kinds = " and ".join(kind for kind, read in SEARCH_OPTIONS.items() if option in read)
            findings.add(("search", search.kind, option), f"is an option of {kinds} only")
    start = search.warm_start
    if start is None:
        return search
    if search.kind != "optuna":
        findings.add(
            ("search", search.kind, "warm_start"), "only optuna learns from earlier trials"
        )
    if base is not None and "://" not in start:
        start = located(base, start)
        if not os.path.isdir(start):
            text = f"no results directory {search.warm_start!r} (looked at {start})"
            findings.add(("search", search.kind, "warm_start"), text)
    return search.model_copy(update={"warm_start": start})


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


def _loggers(given: Any, findings: Findings) -> tuple[LoggerName, ...]:
    known = get_args(LoggerName)
    if not isinstance(given, list):
        findings.add(("loggers",), f"{shown(given)} is not a list; write [{known[0]}]")
        return ()
    for index, name in enumerate(given):
        if name not in known:
            findings.add(("loggers", index), choice_text(name, known))
        elif name in given[:index]:
            findings.add(("loggers", index), f"{name} stands twice")
    return tuple(name for name in known if name in given)


def _keep(given: Any, findings: Findings) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        findings.add(("keep",), f"{shown(given)} is not a whole number")
    elif given < 0:
        findings.add(("keep",), f"{given} is not >= 0")
    else:
        return given
    return 3
