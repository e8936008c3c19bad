"""From records to families in the order of their mean over seeds and folds: which one is chosen."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.config.sweep import metric_mode
from raylab.results.record import Record


@dataclass(frozen=True)
class Family:
    """The complete trials of one config over its seeds (and folds), the lowest seed first."""

    records: tuple[Record, ...]
    metric: str
    num_recorded: int
    """Trials of any status; more than `records` where some failed or were pruned."""

    @property
    def first(self) -> Record:
        """The trial of the lowest seed, which stands for the family: no choice by luck."""
        return self.records[0]

    @property
    def mean(self) -> float:
        """Of the metric over the complete trials; an accuracy's as the leaderboard has it: over the
        seeds that have all of its folds, of each the share of all images that these validated.
        """
        if self.metric != "val_accuracy":
            return statistics.fmean(value_of(record, self.metric) for record in self.records)
        seeds: dict[Any, list[Record]] = defaultdict(list)
        for record in self.records:
            seeds[record.config["seed"]].append(record)
        most = max(map(len, seeds.values()))  # fewer folds may be the easy ones
        return statistics.fmean(_accuracy(own) for own in seeds.values() if len(own) == most)

    @property
    def num_lacking(self) -> int:
        """Its folds of which no trial is complete: what is left may be the easy ones."""
        folds = {record.config.get("split.fold", 0) for record in self.records}
        return int(self.first.config.get("split.folds") or 1) - len(folds)

    @property
    def num_epochs(self) -> int:
        """The median of the best epochs: one seed's odd epoch does not move it."""
        return round(statistics.median(record.best_epoch or 1 for record in self.records))

    def reasons(self) -> dict[str, Any]:
        """What spoke for the family, from the validation split alone."""
        values = [value_of(record, self.metric) for record in self.records]
        return {
            "metric": self.metric,
            "mean": self.mean,
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "seeds": [record.config["seed"] for record in self.records],
            "complete_trials": len(self.records),
            "recorded_trials": self.num_recorded,
            "best_epochs": [record.best_epoch for record in self.records],
        }


def ranked_families(records: Iterable[Record], metric: str) -> list[Family]:
    """The families with at least one complete trial: those that lack the fewest folds first, of
    them the best; equals by their id.
    """
    recorded: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        recorded[record.family_id].append(record)
    families = []
    for members in recorded.values():
        complete = [r for r in members if r.status == "complete" and _is_measured(r, metric)]
        if complete:
            complete.sort(key=lambda r: (r.config["seed"], r.config.get("split.fold", 0)))
            families.append(Family(tuple(complete), metric, len(members)))
    sign = 1 if metric_mode(metric) == "max" else -1
    return sorted(families, key=lambda f: (f.num_lacking, -sign * f.mean, f.first.family_id))


def value_of(record: Record, metric: str) -> float:
    """The record's value of the metric, which it must have."""
    return float(getattr(record, metric))


def _accuracy(folds: Sequence[Record]) -> float:
    weights = [record.num_val or 1 for record in folds]
    return statistics.fmean((value_of(r, "val_accuracy") for r in folds), weights)


def _is_measured(record: Record, metric: str) -> bool:
    return getattr(record, metric) is not None
