"""One trial field's value in a grid: sound on its own, or noted with its place."""

from typing import Any

from raylab.config.choices import did_you_mean
from raylab.config.fields import FIELD_KEYS, NESTED, field_problems, root
from raylab.config.findings import Findings
from raylab.config.marked import Path
from raylab.config.models import model_problem


def unknown_field(where: Path, key: str, findings: Findings) -> None:
    """Note that no trial field is called `key`."""
    names = [name for name in FIELD_KEYS if ("." in name) == ("." in key)]
    hint = did_you_mean(key, names) or did_you_mean(key, FIELD_KEYS)
    if not hint:
        hint = "; allowed: " + ", ".join(name for name in FIELD_KEYS if "." not in name)
    findings.add(where, f"no such field{hint}")


def check_value(where: Path, key: str, value: Any, findings: Findings) -> bool:
    """Note what is wrong with one field's value on its own; whether anything is."""
    found = field_problems(key, value)
    if key in NESTED and isinstance(value, dict) and "preset" not in value:
        # What concerns the whole (fractions that do not add up) is for the whole config to say.
        found = [(below, text) for below, text in found if below]
    if key == "model" and not found and (text := model_problem(value)):
        found = [((), text)]
    if findings.add_below(where, found):
        findings.spoiled.add(root(key))
    return bool(found)
