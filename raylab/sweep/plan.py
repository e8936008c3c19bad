"""From a sweep and its scanned source to what would run: trials, variants, what is already done."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from raylab.config.expand import config_from, count_trials, differing_fields, expand, sample
from raylab.config.identity import trial_id
from raylab.config.sweep import Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.images.prepare import variant_id
from raylab.images.source import Source
from raylab.images.split import resolve_strategy
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, best_epoch
from raylab.sweep.queue import fixed_axes

# Images of so many sizes would fill the disk before the first trial: ask instead.
MAX_VARIANTS = 16


@dataclass(frozen=True)
class Plan:
    """A sweep over one source. Nothing in here starts or writes anything."""

    sweep: SweepConfig
    source: Source

    @cached_property
    def num_trials(self) -> int:
        total = count_trials(self.sweep)
        cap = self.sweep.budget.trials
        return total if cap is None else min(total, cap)

    def configs(self) -> Iterator[TrialConfig]:
        """The trials in the order in which they start; none for Optuna, which decides later."""
        kind = self.sweep.search.kind
        if kind == "grid":
            found = expand(self.sweep)
        elif kind == "random":
            found = random_configs(self.sweep)
        else:
            found = iter(())
        return map(self.finish, islice(found, self.sweep.budget.trials))

    def finish(self, config: TrialConfig) -> TrialConfig:
        """The config with what only the source can tell filled in: the split's strategy."""
        split = resolve_strategy(config.split, self.source)
        return config.model_copy(update={"split": split})

    def identify(self, config: TrialConfig) -> str:
        return trial_id(config, self.source.fingerprint)

    @cached_property
    def variants(self) -> tuple[tuple[int, int], ...]:
        """(image_size, channels) that trials may ask for.

        Raises Refused when an Optuna search leaves too many of them open.
        """
        if self.sweep.search.kind != "optuna":
            return tuple(sorted({(c.image_size, c.channels) for c in self.configs()}))
        base = self.finish(config_from(self.sweep, first_assignment(self.sweep), 0))
        sizes = possible_values(self.sweep, "image_size", base.image_size)
        channels = possible_values(self.sweep, "channels", base.channels)
        if len(sizes) * len(channels) > MAX_VARIANTS:
            text = (
                f"{len(sizes)} image sizes would all have to be prepared beforehand (at most "
                f"{MAX_VARIANTS}); give a list or {{choice: [...]}}"
            )
            raise Refused([Problem("axes.image_size", text)], "the grid")
        return tuple((size, depth) for size in sizes for depth in channels)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The flat names of the fields in which trials differ."""
        if self.sweep.search.kind == "optuna":
            names = tuple(self.sweep.axes)
            return (*names, "seed") if len(self.sweep.seeds) > 1 else names
        return tuple(differing_fields(islice(self.configs(), 2000)))

    def summary(self, results: ResultsDirectory) -> dict[str, Any]:
        """What `raylab plan` prints: counts, variants with their bytes, what is already done."""
        finished = reusable_records(self.sweep, results)
        done = (
            sum(self.identify(config) in finished for config in self.configs()) if finished else 0
        )
        unique = len(set(self.source.table["sha256"].to_pylist()))
        return {
            "name": self.sweep.name,
            "trials": self.num_trials,
            "done": done,
            "to_run": self.num_trials - done,
            "fields": list(self.fields),
            "images": self.source.table.num_rows,
            "classes": dict(sorted(Counter(self.source.table["label"].to_pylist()).items())),
            "data_fingerprint": self.source.fingerprint,
            "variants": [
                {
                    "variant_id": variant_id(self.source, size, channels),
                    "image_size": size,
                    "channels": channels,
                    "bytes": unique * size * size * channels,
                }
                for size, channels in self.variants
            ],
            "epochs": sum(config.epochs for config in self.configs()),
            "results": results.location,
        }


def reusable_records(
    sweep: SweepConfig, results: ResultsDirectory, *, with_failed: bool = True
) -> dict[str, Record]:
    """By trial_id, the records that stand for a trial of this sweep, were it run again.

    Not those of trials that another scheduler pruned, or whose best epoch another metric chose.
    """
    ids = results.finished_ids(with_failed=with_failed)
    return {r.trial_id: r for r in results.records() if r.trial_id in ids and stands(r, sweep)}


def stands(record: Record, sweep: SweepConfig) -> bool:
    """Whether running the trial in this sweep would give this record."""
    if record.status == "failed":
        return True
    if record.status == "pruned" and sweep.scheduler.kind == "none":
        return False
    return best_epoch(record.epochs, sweep.metric).get("epoch") == record.best_epoch


def random_configs(sweep: SweepConfig) -> Iterator[TrialConfig]:
    """The draws of a random search, each with every seed."""
    for index in range(sweep.search.num_trials or 0):
        assignment = sample(sweep, index)
        for seed in sweep.seeds:
            yield config_from(sweep, assignment, seed)


def first_assignment(sweep: SweepConfig) -> dict[str, Any]:
    """The first value of everything that is listed."""
    first = {key: values[0] for key, values in fixed_axes(sweep).items()}
    return first | {key: values[0] for group in sweep.zip for key, values in group.items()}


def possible_values(sweep: SweepConfig, field: str, base: int) -> list[int]:
    """All values that a whole-number field can take in the sweep."""
    listed = fixed_axes(sweep) | {key: v for group in sweep.zip for key, v in group.items()}
    if field in listed:
        return sorted(set(listed[field]))
    axis = sweep.axes.get(field)
    if isinstance(axis, Distribution):
        return list(range(int(axis.low), int(axis.high)))
    return [base]
