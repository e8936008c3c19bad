"""From pydantic's errors to raylab's: given, rule, hint, in words a person would use."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raylab.config.choices import did_you_mean

_RULES = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}
_KINDS = {
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
}


def shown(value: Any) -> str:
    """A value as a grid would write it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def choice_text(given: object, allowed: Iterable[str]) -> str:
    """`'cosin' is not one of constant, cosine; did you mean cosine?`"""
    words = list(allowed)
    return f"{shown(given)} is not one of {', '.join(words)}{did_you_mean(given, words)}"


def wording(
    error: ValidationError, given: Any, allowed: Iterable[str] = ()
) -> list[tuple[tuple[str | int, ...], str]]:
    """(path, text) per problem; alternatives of a union are told as one."""
    fields = list(allowed)
    details = error.errors(include_url=False)
    unions: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for detail in details:
        path = _path_in(given, detail["loc"])
        if len(path) < len(detail["loc"]) and detail["type"] not in ("missing", "extra_forbidden"):
            unions.setdefault(path, []).append(detail)
        else:
            problems.append((path, _text(detail, fields)))
    for path, alternatives in unions.items():
        problems.append((path, _union_text(_at(given, path), alternatives)))
    return problems


def _path_in(given: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of pydantic's location that is in the input; the rest names union members."""
    for length, step in enumerate(loc):
        in_mapping = isinstance(given, Mapping) and step in given
        in_list = isinstance(given, list | tuple) and isinstance(step, int) and step < len(given)
        if not in_mapping and not in_list:
            return loc[:length]
        given = _at(given, (step,))
    return loc


def _at(given: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        given = given[step]
    return given


def _text(detail: ErrorDetails, fields: list[str]) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        hint = did_you_mean(name, fields)
        return f"no such field{hint or '; allowed: ' + ', '.join(fields)}"
    if kind == "missing":
        return f"{detail['loc'][-1]} is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind in _RULES:
        name, sign = _RULES[kind]
        return f"{shown(given)} is not {sign} {context[name]:g}"
    if kind == "literal_error":
        return choice_text(given, _choices(detail))
    if kind in _KINDS:
        return f"{shown(given)} is not {_KINDS[kind]}"
    return f"{shown(given)}: {detail['msg']}"


def _choices(detail: ErrorDetails) -> list[str]:
    expected = str(detail.get("ctx", {})["expected"])
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _union_text(given: Any, alternatives: list[ErrorDetails]) -> str:
    kinds: dict[str, None] = {}
    for detail in alternatives:
        if detail["type"] == "literal_error":
            words = _choices(detail)
            kinds[f"one of {', '.join(words)}"] = None
        elif detail["type"] in _RULES:
            return _text(detail, [])
        else:
            kinds[_KINDS.get(detail["type"], detail["msg"])] = None
    hints = [
        did_you_mean(given, _choices(detail))
        for detail in alternatives
        if detail["type"] == "literal_error"
    ]
    return f"{shown(given)} is not {' or '.join(kinds)}{''.join(hints)}"
