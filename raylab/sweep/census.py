"""What the trials of a sweep come to together: formats, splits, fields that differ, epochs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from raylab.config.builder import CHECKED_TOGETHER, FINISHED, Finish
from raylab.config.differences import Differences
from raylab.config.expand import decisive, expand, num_product, swept, values_of
from raylab.config.fields import coerce
from raylab.config.sweep import SweepConfig
from raylab.config.trial import SplitConfig, TrialConfig
from raylab.images.variant import Format

COUNTED = frozenset({"image_size", "channels", "crop", "epochs"}) | CHECKED_TOGETHER | FINISHED
"""Fields that decide a trial's format or epochs, or are checked or finished with others."""


@dataclass(frozen=True)
class Census:
    """What is known of many configs at once."""

    variants: tuple[Format, ...]
    """Each once."""
    fields: tuple[str, ...]
    """The flat names of the fields in which the configs differ."""
    num_epochs: int
    """Of all of them together."""
    splits: tuple[SplitConfig, ...]
    """Each once."""


def census_of(configs: Iterable[TrialConfig]) -> Census:
    """Each config is looked at."""
    variants: set[Format] = set()
    splits: dict[SplitConfig, None] = {}
    differences, num_epochs = Differences(), 0
    for config in configs:
        variants.add(Format.of(config))
        splits[config.split] = None
        differences.note(config)
        num_epochs += config.epochs
    return Census(tuple(sorted(variants)), tuple(differences.fields()), num_epochs, tuple(splits))


def census_of_grid(sweep: SweepConfig, finish: Finish) -> Census:
    """That of every trial of a grid, of which only those are built that can count otherwise than
    the others: fields outside COUNTED and `exclude` meet all of them alike.
    """
    part = decisive(sweep, COUNTED)
    found = census_of(expand(part, finish))
    differing = {*found.fields, *_free(sweep, part)}
    return Census(
        found.variants,
        tuple(name for name in TrialConfig().flat() if name in differing),
        found.num_epochs * (num_product(sweep) // num_product(part)),
        found.splits,
    )


def _free(sweep: SweepConfig, part: SweepConfig) -> Iterator[str]:
    """The fields that differ in the sweep and are no longer moved in its part."""
    if len(sweep.seeds) > len(part.seeds):
        yield "seed"
    for key in set(swept(sweep)) - set(swept(part)):
        values = [coerce(key, value) for value in _given(sweep, key)]
        if any(value != values[0] for value in values):
            yield key


def _given(sweep: SweepConfig, key: str) -> list[Any]:
    """Every value that trials have of the field: of levers the base's too, which an axis hides."""
    is_lever = any(key in lever for lever in sweep.levers)
    base = {key: sweep.trial.get(key, getattr(TrialConfig(), key))} if is_lever else {}
    return values_of(sweep.model_copy(update={"trial": base}), key)
