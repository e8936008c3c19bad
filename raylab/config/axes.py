"""From a grid's raw `axes`, `zip`, `levers` and `exclude` to checked ones; bad values are noted and
left out."""

from typing import Any

from raylab.config.fields import FIELD_KEYS, coerce, is_number, is_whole_number
from raylab.config.findings import Findings
from raylab.config.marked import Path
from raylab.config.sweep import Distribution
from raylab.config.values import check_value, unknown_field
from raylab.config.wording import choice_text, shown

_RANGES = ("loguniform", "uniform", "randint")
_KINDS = (*_RANGES, "choice")


def read_axes(given: Any, findings: Findings) -> dict[str, tuple[Any, ...] | Distribution]:
    """Per field its values or its distribution; `{choice: [...]}` is a list by another name."""
    if not isinstance(given, dict):
        findings.add(("axes",), f"{shown(given)} is not a mapping of trial fields to lists")
        return {}
    axes: dict[str, tuple[Any, ...] | Distribution] = {}
    for key, values in given.items():
        where: Path = ("axes", key)
        if not _is_axis_field(where, key, findings):
            continue
        if isinstance(values, dict) and any(kind in values for kind in _KINDS):
            axis = _distribution(where, key, values, findings)
        else:
            axis = _values(where, key, values, findings)
        if axis:
            axes[key] = axis
    return axes


def read_zip(given: Any, findings: Findings) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """Groups of equally long lists; a single group may stand without its dash."""
    groups = [given] if isinstance(given, dict) else given
    if not isinstance(groups, list):
        findings.add(("zip",), f"{shown(given)} is not a list of groups of axes")
        return ()
    read: list[dict[str, tuple[Any, ...]]] = []
    for index, group in enumerate(groups):
        where: Path = ("zip",) if isinstance(given, dict) else ("zip", index)
        if not isinstance(group, dict) or not group:
            text = "write {model: [a, b], lr: [1.0e-3, 1.0e-4]}"
            findings.add(where, f"{shown(group)} is not a group of axes; {text}")
        elif sound := _group(where, group, findings):
            read.append(sound)
    return tuple(read)


def read_levers(given: Any, findings: Findings) -> tuple[dict[str, Any], ...]:
    """Changes by dotted field, each to be made alone."""
    if not isinstance(given, list):
        text = "is not a list of changes; write [{augment: light}, {loss: focal, lr: 1.0e-3}]"
        findings.add(("levers",), f"{shown(given)} {text}")
        return ()
    levers: list[dict[str, Any]] = []
    meanings: list[dict[str, Any]] = []
    for index, lever in enumerate(given):
        where: Path = ("levers", index)
        if not isinstance(lever, dict) or not lever:
            text = "is no change; write {augment: light} (what changes nothing is run anyway)"
            findings.add(where, f"{shown(lever)} {text}")
            continue
        known = [key for key in lever if _is_axis_field((*where, key), key, findings)]
        bad = [check_value((*where, key), key, lever[key], findings) for key in known]
        if len(known) < len(lever) or any(bad):
            continue  # half a change would be another one
        meaning = {key: _meaning(key, value) for key, value in lever.items()}
        if meaning in meanings:
            findings.add(where, "stands twice")
            continue
        meanings.append(meaning)
        levers.append(dict(lever))
    return tuple(levers)


def read_exclude(given: Any, findings: Findings) -> tuple[dict[str, Any], ...]:
    """Partial configs by dotted name."""
    if not isinstance(given, list):
        findings.add(("exclude",), f"{shown(given)} is not a list of partial configs")
        return ()
    partials: list[dict[str, Any]] = []
    for index, partial in enumerate(given):
        where: Path = ("exclude", index)
        if not isinstance(partial, dict) or not partial:
            findings.add(where, f"{shown(partial)} is no partial config; write {{lr: 0.1}}")
            continue
        flat = _flattened(partial)
        sound = {}
        for key, value in flat.items():
            if key not in FIELD_KEYS:
                unknown_field((*where, key), key, findings)
            elif not check_value((*where, key), key, value, findings):
                sound[key] = value
        if len(sound) == len(flat):  # a partial config that lost a part would exclude too much
            partials.append(sound)
    return tuple(partials)


def _flattened(partial: dict[str, Any]) -> dict[str, Any]:
    """`{split: {train: 0.7}}` excludes by that fraction alone, as `split.train` does."""
    flat: dict[str, Any] = {}
    for key, value in partial.items():
        if key == "split" and isinstance(value, dict):
            flat.update({f"{key}.{name}": part for name, part in value.items()})
        else:
            flat[key] = value
    return flat


def _is_axis_field(where: Path, key: str, findings: Findings) -> bool:
    if key == "seed":
        findings.add(where, "seeds are no axis; list them under seeds")
    elif key not in FIELD_KEYS:
        unknown_field(where, key, findings)
    else:
        return True
    return False


def _values(where: Path, key: str, values: Any, findings: Findings) -> tuple[Any, ...]:
    """The sound values of one axis, each once."""
    if not isinstance(values, list):
        findings.add(where, f"{shown(values)} is not a list; write [{_bare(values)}]")
        return ()
    if not values:
        findings.add(where, "the axis is empty; give at least one value or take it out")
    sound: list[Any] = []
    meanings: list[Any] = []
    for index, value in enumerate(values):
        if check_value((*where, index), key, value, findings):
            continue
        meaning = _meaning(key, value)
        if meaning in meanings:
            findings.add((*where, index), f"{_bare(value)} stands twice")
            continue
        meanings.append(meaning)
        sound.append(value)
    return tuple(sound)


def _meaning(key: str, value: Any) -> Any:
    """What the value comes to; a mapping that is only sound with others stands for itself."""
    try:
        return coerce(key, value)
    except ValueError:
        return value


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _group(where: Path, group: dict[str, Any], findings: Findings) -> dict[str, tuple[Any, ...]]:
    """One zip group, or nothing if any of its columns is bad: rows must stay aligned."""
    columns: dict[str, tuple[Any, ...]] = {}
    for key, values in group.items():
        if not _is_axis_field((*where, key), key, findings):
            continue
        if not isinstance(values, list) or not values:
            findings.add((*where, key), f"{shown(values)} is not a list of values")
            continue
        bad = [check_value((*where, key, i), key, v, findings) for i, v in enumerate(values)]
        if not any(bad):
            columns[key] = tuple(values)
    lengths = {key: len(values) for key, values in group.items() if isinstance(values, list)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        findings.add(where, f"the lists of a group must be equally long; {told} values")
        return {}
    if len(columns) < len(group):
        return {}
    meanings = [[_meaning(key, value) for value in column] for key, column in columns.items()]
    rows = list(zip(*meanings, strict=True))
    for index, row in enumerate(rows):
        if row in rows[:index]:
            findings.add(where, f"row {index + 1} stands twice")
    return columns


def _distribution(
    where: Path, key: str, given: dict[str, Any], findings: Findings
) -> tuple[Any, ...] | Distribution | None:
    kind, ends = next(iter(given.items()))
    if len(given) > 1 or kind not in _KINDS:
        findings.add(where, choice_text(list(given) if len(given) > 1 else kind, _KINDS))
        return None
    if kind == "choice":
        return _values((*where, kind), key, ends, findings)
    below: Path = (*where, kind)
    if not isinstance(ends, list) or len(ends) != 2:
        findings.add(below, f"{shown(ends)} is not [low, high]")
        return None
    if not is_number(key):
        findings.add(below, f"{key} is no number; list its values or use choice")
        return None
    if is_whole_number(key) != (kind == "randint"):
        rule = "is a whole number; use randint" if is_whole_number(key) else "needs uniform"
        findings.add(below, f"{key} {rule}{'' if 'use' in rule else ' or loguniform'}")
        return None
    bad = [check_value((*below, i), key, end, findings) for i, end in enumerate(ends)]
    if any(bad):
        return None
    low, high = ends
    if not low < high:
        findings.add(below, f"low {shown(low)} is not < high {shown(high)}")
        return None
    if kind == "loguniform" and low <= 0:
        findings.add(below, f"low {shown(low)} is not > 0; a logarithm needs that")
        return None
    return Distribution(kind=kind, low=float(low), high=float(high))
