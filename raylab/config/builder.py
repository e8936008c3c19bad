"""From points of a sweep to trial configs, each field checked once per value, not per trial."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from raylab.config.fields import overlay, root
from raylab.config.files import FILES
from raylab.config.trial import TrialConfig

Point = Mapping[str, Any]
"""Dotted trial field → value as given."""
Finish = Callable[[TrialConfig], TrialConfig]
"""Fills in what a config does not tell itself: reads and changes fields of FINISHED alone."""

CHECKED_TOGETHER = frozenset({"epochs", "warmup_epochs", "ema_decay", "swa_frac"})
"""Fields that TrialConfig checks against each other; any other is right or wrong on its own."""
FINISHED = frozenset(
    {
        *("split", "model", "interpolation", "soft_labels"),
        *(name for file in FILES for name in (file, f"{file}_digest")),
    }
)
"""Fields that a `Finish` reads or fills in."""

# Keeps memory flat where one field takes very many values.
_MAX_KNOWN = 10_000


class ConfigBuilder:
    """Builds what `expand.config_from` would validate anew for every trial, many times faster.

    Fields that are checked or finished together are validated together, once per combination of
    their values, and copied into each config from then on.
    """

    def __init__(
        self, trial: Mapping[str, Any], keys: Sequence[str], finish: Finish | None = None
    ) -> None:
        """`trial`: the fields at every point; `keys`: every dotted field that a point may set."""
        names = {root(key) for key in keys}
        groups = [frozenset({name}) for name in names - CHECKED_TOGETHER - FINISHED]
        groups += [CHECKED_TOGETHER, FINISHED]
        moved = frozenset().union(*groups)
        self._base = TrialConfig.model_validate(_part(trial, set(trial) - moved))
        self._parts = [_Part(trial, group, keys, finish) for group in groups]
        self._seeds: set[int] = set()
        self._point: Point | None = None
        self._at_point = self._base

    def __call__(self, point: Point, seed: int) -> TrialConfig:
        """The trial at the point; raises pydantic's ValidationError if fields disagree."""
        if seed not in self._seeds:
            self._seeds.add(TrialConfig(seed=seed).seed)
        if point is not self._point:  # else another seed of the same one
            values: dict[str, Any] = {}
            for part in self._parts:
                values.update(part(point))
            self._point, self._at_point = point, self._base.model_copy(update=values)
        return self._at_point.model_copy(update={"seed": seed})


class _Part:
    """Fields that are checked together, and their values at every point so far."""

    def __init__(
        self,
        trial: Mapping[str, Any],
        names: frozenset[str],
        keys: Sequence[str],
        finish: Finish | None,
    ) -> None:
        self._names = names
        self._finish = finish if names == FINISHED else None
        self._given = _part(trial, names)
        self._keys = tuple(key for key in keys if root(key) in names)
        self._known: dict[Hashable, dict[str, Any]] = {}

    def __call__(self, point: Point) -> dict[str, Any]:
        memo = memo_of(point, self._keys)
        if memo not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            values = overlay(self._given, {k: plain(point[k]) for k in self._keys if k in point})
            config = TrialConfig.model_validate(values)
            if self._finish is not None:
                config = self._finish(config)
            self._known[memo] = {name: getattr(config, name) for name in self._names}
        return self._known[memo]


def memo_of(point: Point, keys: Iterable[str]) -> Hashable:
    """What the point says under these keys, to remember an answer by."""
    said = tuple([point.get(key) for key in keys])
    try:
        hash(said)
    except TypeError:  # lists and mappings
        return repr(said)
    return said


def plain(value: Any) -> Any:
    """numpy scalars, as search algorithms suggest them, as Python numbers."""
    return value.item() if hasattr(value, "item") else value


def _part(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    wanted = set(names)
    return {key: value for key, value in values.items() if key in wanted}
