"""From records, one by one, to alarms: a field that two trials set differently, to no effect."""

from collections import defaultdict
from dataclasses import dataclass

from raylab.config.identity import digest
from raylab.config.sweep import EPOCH_METRICS
from raylab.results.record import CONFIG_COLUMNS, Record, Scalar

# A record is compared with so many equals at most, so that a dead axis does not cost more and more.
MAX_EQUALS = 32
# Fields that cannot move alone: the fractions of a split add up to 1.
FRACTIONS = frozenset({"split.train", "split.val", "split.test"})


@dataclass(frozen=True, slots=True)
class Alarm:
    """One field that seems to change nothing, and the two trials that show it."""

    key: str
    """The config's field; fractions of a split joined by `, `."""
    values: tuple[str, str]
    trial_ids: tuple[str, str]

    def __str__(self) -> str:
        first, second = self.values
        return (
            f"WARNING {self.key} changes nothing: {first} (trial {self.trial_ids[0]}) and {second} "
            f"(trial {self.trial_ids[1]}), alike in all else, gave the same metrics in every epoch "
            "to the last digit"
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What is remembered of a record: there may be as many as trials."""

    trial_id: str
    data_fingerprint: str
    values: tuple[Scalar, ...]
    """Of CONFIG_COLUMNS."""

    @classmethod
    def of(cls, record: Record) -> "Trial":
        values = tuple(map(record.config.get, CONFIG_COLUMNS))
        return cls(record.trial_id, record.data_fingerprint, values)

    def value_of(self, key: str) -> str:
        """`0.9`, or `0.6, 0.3` where the key names several fields."""
        config = dict(zip(CONFIG_COLUMNS, self.values, strict=True))
        return ", ".join(str(config[name]) for name in key.split(", "))


class DeadAxes:
    """Hears of every record; each key is named once."""

    def __init__(self) -> None:
        self.equals: dict[str, list[Trial]] = defaultdict(list)
        self.named: set[str] = set()

    def hear(self, record: Record) -> list[Alarm]:
        """The alarms that this record raises. Only complete trials count, each once.

        The learning rate that an epoch ran at is no metric: that it differs shows nothing.
        """
        if record.status != "complete" or not record.epochs:
            return []
        metrics = digest([[epoch.get(name) for name in EPOCH_METRICS] for epoch in record.epochs])
        trial, equals = Trial.of(record), self.equals[metrics]
        found = []
        for other in equals:
            key = only_difference(other, trial)
            if key is not None and key not in self.named:
                self.named.add(key)
                values = other.value_of(key), trial.value_of(key)
                found.append(Alarm(key, values, (other.trial_id, trial.trial_id)))
        if len(equals) < MAX_EQUALS:
            equals.append(trial)
        return found


def only_difference(first: Trial, second: Trial) -> str | None:
    """The one field in which the configs differ; None if there are none or several."""
    if first.data_fingerprint != second.data_fingerprint:
        return None
    pairs = zip(CONFIG_COLUMNS, first.values, second.values, strict=True)
    keys = [key for key, one, other in pairs if one != other]
    return ", ".join(keys) if len(keys) == 1 or (keys and FRACTIONS.issuperset(keys)) else None
