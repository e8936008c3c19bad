"""From configs, seen one by one, to the names of the fields in which they differ."""

from collections.abc import Iterable

from raylab.config.trial import SplitConfig, TrialConfig


class Differences:
    """Which fields differ among the configs seen so far; remembers only the first of them."""

    def __init__(self) -> None:
        self._first: TrialConfig | None = None
        self._differing: set[str] = set()

    def note(self, config: TrialConfig) -> None:
        """See one more config; cheap, since most of its values are the first one's own objects."""
        if self._first is None:
            self._first = config
        first = self._first.__dict__
        for name, value in config.__dict__.items():
            if value is first[name] or name in self._differing or value == first[name]:
                continue
            if isinstance(value, SplitConfig):
                parts = zip(value, first[name], strict=True)
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
