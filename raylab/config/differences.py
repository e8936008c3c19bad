"""From configs, seen one by one, to the names of the fields in which they differ."""

from collections.abc import Iterable
from itertools import compress
from operator import is_not, itemgetter
from typing import Any

from raylab.config.trial import SplitConfig, TrialConfig

_NAMES = tuple(TrialConfig.model_fields)
_values = itemgetter(*_NAMES)


class Differences:
    """Which fields differ among the configs seen so far; remembers only the first of them."""

    def __init__(self) -> None:
        self._first: TrialConfig | None = None
        self._values: tuple[Any, ...] = ()
        self._differing: set[str] = set()

    def note(self, config: TrialConfig) -> None:
        """See one more config; cheap, since most of its values are the first one's own objects."""
        if self._first is None:
            self._first, self._values = config, _values(vars(config))
        values = _values(vars(config))
        for name in compress(_NAMES, map(is_not, values, self._values)):
            value, before = getattr(config, name), getattr(self._first, name)
            if name in self._differing or value == before:
                continue
            if isinstance(value, SplitConfig):
                parts = zip(value, before, strict=True)
                self._differing |= {f"{name}.{part}" for (part, a), (_, b) in parts if a != b}
            else:
                self._differing.add(name)

    def fields(self) -> list[str]:
        """Their flat names, in the config's order."""
        names = self._first.flat() if self._first is not None else ()
        return [name for name in names if name in self._differing]


def differing_fields(configs: Iterable[TrialConfig]) -> list[str]:
    """Flat names of the fields in which the configs differ, in the config's order."""
    found = Differences()
    for config in configs:
        found.note(config)
    return found.fields()
