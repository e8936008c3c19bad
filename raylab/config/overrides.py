"""From `--set key=value` to changed grid values; any grid key, dotted, wins over the file."""

from collections.abc import Sequence
from typing import Any

from raylab.config.choices import did_you_mean
from raylab.config.marked import Path, parse_value

LISTS = ("exclude", "levers", "seeds", "zip")
"""Their numbered steps are places in a list: `zip.0.lr`."""
FLAT_SECTIONS = ("axes", "exclude", "levers", "zip")
"""Below these, what remains of a dotted key is one trial field: `axes.augment.rotate_deg`."""


def apply(
    grid: dict[str, Any], overrides: Sequence[str], keys: Sequence[str], trial_keys: Sequence[str]
) -> tuple[dict[Path, str], list[tuple[str, str]]]:
    """Change `grid` in place. Returns the place of each set path, and (place, text) problems.

    A value is read as YAML; nothing (`trial.lr=`) or null takes the key out.
    """
    places: dict[Path, str] = {}
    problems: list[tuple[str, str]] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        place = f"--set {key}"
        try:
            if not equals or not key.strip():
                raise ValueError(f"{override!r} is not key=value")
            path = _path(key.strip(), keys, trial_keys)
            _put(grid, path, parse_value(text))
            places[path] = place
        except ValueError as error:
            problems.append((place, str(error)))
    return places, problems


def _path(key: str, keys: Sequence[str], trial_keys: Sequence[str]) -> Path:
    head, _, rest = key.partition(".")
    if head not in keys:
        if key in trial_keys:
            raise ValueError(f"no such grid key; did you mean trial.{key} or axes.{key}?")
        hint = did_you_mean(head, keys)
        raise ValueError(f"no such grid key{hint or '; allowed: ' + ', '.join(keys)}")
    if head == "axes":
        return (head, rest) if rest else (head,)
    steps = [int(step) if head in LISTS and step.isdigit() else step for step in key.split(".")]
    if head in FLAT_SECTIONS and len(steps) > 2:
        return (*steps[:2], ".".join(map(str, steps[2:])))
    return tuple(steps)


def _put(grid: dict[str, Any], path: Path, value: Any) -> None:
    if path[:2] == ("zip", 0) and isinstance(grid.get("zip"), dict):
        grid["zip"] = [grid["zip"]]  # a single group may stand without its dash
    target: Any = grid
    for depth, step in enumerate(path[:-1]):
        target = _below(target, step, ".".join(map(str, path[: depth + 1])))
    last = path[-1]
    if isinstance(target, list):
        if not isinstance(last, int) or last >= len(target):
            raise ValueError(f"{last} is no place in a list of {len(target)}")
        target[last] = value
    elif isinstance(last, int):
        raise ValueError(f"no list to count in for {last}")
    else:
        _drop_dotted(grid, path)
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value


def _below(target: Any, step: str | int, shown: str) -> Any:
    if isinstance(target, list):
        if not isinstance(step, int) or step >= len(target):
            raise ValueError(f"{shown}: no such place in a list of {len(target)}")
        found = target[step]
    elif isinstance(step, int):
        raise ValueError(f"{shown}: no list to count in")
    else:
        found = target.setdefault(step, {})
    if isinstance(found, str) and step == "augment":
        found = target[step] = {"preset": found}
    elif isinstance(found, str) or found is None:  # `search: random`, then its options
        found = target[step] = {}
    if not isinstance(found, dict | list):
        raise ValueError(f"{shown} is {found!r}, which has nothing below it")
    return found


def _drop_dotted(grid: dict[str, Any], path: Path) -> None:
    """What is set at `trial.split.test` replaces a `split.test` that the file wrote dotted, and a
    whole `trial.split` every `split.…`.
    """
    if path[0] == "trial" and len(path) > 1:
        name = ".".join(map(str, path[1:]))
        for key in [key for key in grid["trial"] if f"{key}.".startswith(f"{name}.")]:
            del grid["trial"][key]
