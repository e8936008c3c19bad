"""A trial's fields by their dotted names: what a value means for one field, on its own."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from raylab.config.trial import AugmentConfig, SplitConfig, TrialConfig
from raylab.config.wording import wording

NESTED: dict[str, type[BaseModel]] = {"split": SplitConfig, "augment": AugmentConfig}


def _adapters() -> dict[str, TypeAdapter[Any]]:
    found: dict[str, TypeAdapter[Any]] = {}
    models: dict[str, type[BaseModel]] = {"": TrialConfig}
    models.update({f"{field}.": model for field, model in NESTED.items()})
    for prefix, model in models.items():
        for name, info in model.model_fields.items():
            kind: Any = Annotated[info.annotation, info]
            found[prefix + name] = TypeAdapter(kind)
    return found


_ADAPTERS = _adapters()
FIELD_KEYS: tuple[str, ...] = tuple(_ADAPTERS)
"""Every key a grid may set: `lr`, `split`, `split.train`, `augment.flip`, …"""


def root(key: str) -> str:
    """`split` of `split.train`."""
    return key.partition(".")[0]


def coerce(key: str, value: Any) -> Any:
    """The value as the trial config would hold it; raises pydantic's ValidationError."""
    if key == "augment.preset":
        return AugmentConfig.model_validate(value)
    return _ADAPTERS[key].validate_python(value)


def is_whole_number(key: str) -> bool:
    """Whether the field is an integer."""
    return _json_type(key) == "integer"


def is_number(key: str) -> bool:
    """Whether a range of the field makes sense."""
    return _json_type(key) in ("integer", "number")


def _json_type(key: str) -> str | None:
    schema = _ADAPTERS[key].json_schema()
    kind = schema.get("type")
    return kind if isinstance(kind, str) and "enum" not in schema else None


def field_problems(key: str, value: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the value on its own: (path below the field, text)."""
    try:
        coerce(key, value)
    except ValidationError as error:
        allowed = NESTED[key].model_fields if key in NESTED else ()
        return wording(error, value, allowed)
    return []


def without_dots(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{split.train: 0.7}` as `{split: {train: 0.7}}`."""
    return overlay({}, values)


def overlay(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `values` on top. Whole fields first, then dotted ones: those keep the rest of
    the field, and a preset below them becomes `{preset: light, rotate_deg: 10}`.
    """
    result = dict(base)
    result.update({key: value for key, value in values.items() if "." not in key})
    for key, value in values.items():
        if "." in key:
            field, _, name = key.partition(".")
            below = result.get(field, {})
            if isinstance(below, BaseModel):
                below = below.model_dump()
            start = dict(below) if isinstance(below, Mapping) else {"preset": below}
            result[field] = {**start, name: value}
    return result


def value_at(config: TrialConfig, key: str) -> Any:
    """The config's value under a dotted name."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
