"""From a sweep and its scanned source to what would run: trials, variants, what is already done."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from itertools import islice, product, starmap
from statistics import fmean
from typing import Any

import pyarrow as pa

from raylab.config.expand import (
    config_from,
    count_trials,
    expand,
    split_choices,
)
from raylab.config.files import FILES, digest_of, parent_of
from raylab.config.identity import trial_id
from raylab.config.notes import notes
from raylab.config.population import Population
from raylab.config.possible import (
    first_assignment,
    moved_fields,
    others,
    possible,
    possible_values,
)
from raylab.config.sweep import SweepConfig
from raylab.config.trial import Filter, SplitConfig, TrialConfig
from raylab.errors import Problem, Refused
from raylab.images.crop import crop_problem
from raylab.images.enough import (
    Sides,
    check_classes,
    check_sides,
    totals,
    try_splits,
    undecoded,
    unreadable,
    unvalidated,
)
from raylab.images.source import Source
from raylab.images.split import describe, remarks, resolve_strategy
from raylab.images.variant import Format, variant_id
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, best_epoch
from raylab.sweep.census import Census, census_of, census_of_grid
from raylab.sweep.draws import draws_over, recalled
from raylab.sweep.entry import pretrained_filter
from raylab.sweep.overruled import overruled

# Images of so many sizes would fill the disk before the first trial: ask instead.
MAX_VARIANTS = 16


@dataclass(frozen=True)
class Plan:
    """A sweep over one source. Nothing in here starts or writes anything.

    Refused: axes and levers that change nothing, since this source gives the sides itself; faces
    that cannot be cut out; too few images of a class, or none of it to train on.
    """

    sweep: SweepConfig
    source: Source

    def __post_init__(self) -> None:
        problems = [*overruled(self.sweep, self.splits, self.images, self.resolve)]
        if "face" in possible(self.sweep, "crop") and (text := crop_problem(self.source) or ""):
            problems.append(Problem("crop", text))
        if problems:
            raise Refused(problems, self.source.location)
        check_classes(self.images, self.source.location)
        check_sides(self.images, self.sides, self.source.location)

    @cached_property
    def images(self) -> pa.Table:
        """The image table as far as it is known before any image is decoded."""
        return undecoded(self.source)

    @cached_property
    def splits(self) -> tuple[SplitConfig, ...]:
        """Those of all trials; of Optuna, which decides later, those that the listed axes make, one
        fold of each.
        """
        if self.sweep.search.kind == "optuna":
            return tuple(dict.fromkeys(map(self.resolve, split_choices(self.sweep))))
        return self.census.splits

    @cached_property
    def sides(self) -> dict[SplitConfig, Sides]:
        """How some of the splits divide the classes."""
        return try_splits(self.images, self.splits)

    @cached_property
    def num_trials(self) -> int:
        total = count_trials(self.sweep)
        cap = self.sweep.budget.trials
        return total if cap is None else min(total, cap)

    def configs(self, done: Mapping[str, Record] | None = None) -> Iterator[TrialConfig]:
        """The trials in the order in which they start; none for Optuna, which decides later, and of
        a population the generations that the records of `done` (by trial_id) decide.
        """
        kind = self.sweep.search.kind
        if kind in ("grid", "random"):
            found = expand(self.sweep, self.finish)
        elif kind == "pbt":
            found = self.population(done or {}).configs()
        else:
            found = iter(())
        return islice(found, self.sweep.budget.trials)

    def beginnings(self, parents: Collection[str]) -> set[tuple[str, SplitConfig]]:
        """Which of `parents`, trials that the grid names, gives its weights to trials of which
        split.
        """
        if self.sweep.search.kind == "optuna":
            return set(product(parents, self.splits))
        begun = ((parent_of(c.pretrained), c.split) for c in (self.configs() if parents else ()))
        return {(parent, split) for parent, split in begun if parent in parents and parent}

    def population(self, done: Mapping[str, Record]) -> Population:
        """A population's first generation, with what `done` knows of it and of the next ones."""
        metric = self.sweep.metric
        outcomes = {identity: record.outcome(metric) for identity, record in done.items()}
        return Population(self.sweep, self.finish, self.identify, outcomes)

    def to_retry(self, known: Mapping[str, Record]) -> set[str]:
        """The failed trials that may run again: of a population those of the newest generation,
        since copies of others have taken the place of earlier ones.
        """
        failed = {name for name, record in known.items() if record.status == "failed"}
        if self.sweep.search.kind != "pbt":
            return failed
        population = self.population(known)
        while population.grow():
            pass
        return failed & population.trials.keys()

    def known(self, results: ResultsDirectory, done: Mapping[str, Record]) -> Iterator[TrialConfig]:
        """`configs`; of Optuna what it drew in these results, which it proposes again first."""
        if self.sweep.search.kind != "optuna":
            return self.configs(done)
        return islice(recalled(self.sweep, results.draws(), self.finish), self.num_trials)

    def examples(self, fields: frozenset[str]) -> Iterable[TrialConfig]:
        """Trials that differ in these fields as those of the sweep do: they themselves, of a
        population its first generation, of Optuna some that it may draw.
        """
        if self.sweep.search.kind == "optuna":
            return draws_over(self.sweep, fields, self.finish)
        return self.configs()

    def largest(self) -> Iterator[TrialConfig]:
        """Trials among which are those of each model that take the most memory; of a search that
        decides as it goes, of each model those with the most images and pixels that the axes allow
        and, one at a time, every value of the other axes.
        """
        if self.sweep.search.kind in ("grid", "random"):
            yield from self.configs()
            return
        base = config_from(self.sweep, first_assignment(self.sweep), 0)
        names = ("image_size", "channels", "batch_size")
        most = {name: max(possible_values(self.sweep, name, getattr(base, name))) for name in names}
        for model in sorted(possible(self.sweep, "model")):
            largest = self.finish(base.model_copy(update={**most, "model": model}))
            yield largest
            for name, values in others(self.sweep, {*most, "model"}).items():
                yield from (largest.model_copy(update={name: value}) for value in values)

    def finish(self, config: TrialConfig) -> TrialConfig:
        """The config with what it does not tell itself filled in: the split's strategy, from the
        source, the digests of the files it names, and the filter that its weights saw. Refused
        where those are not the files meant, or where it asks for votes that the source has not.
        """
        found: dict[str, Any] = {
            "split": self.resolve(config.split),
            **{f"{name}_digest": "" for name in FILES},
        }
        for name in FILES:
            file, digest = getattr(config, name), f"{name}_digest"
            if isinstance(file, str) and file and parent_of(file) is None:
                found[digest] = self.digest(name, file, getattr(config, digest))
        begins = config.pretrained
        if parent_of(begins) is not None:  # a member of a population sees what its first ones saw
            begins = self.sweep.trial.get("pretrained", False)
        if begins and parent_of(begins) is None and config.interpolation == "auto":
            seen = self.filter_of(config.model, begins)
            found["interpolation"] = "auto" if seen == "bicubic" else seen
        if config.soft_labels and not self.source.has_votes:
            text = "the source has no votes: a manifest has them in columns votes_<class>"
            raise Refused([Problem("soft_labels", text)], self.source.location)
        if all(getattr(config, name) == value for name, value in found.items()):
            return config
        return config.model_copy(update=found)

    @cached_property
    def digest(self) -> Callable[[str, str, str], str]:
        """`planned_digest`, asked once for each file."""
        return cache(planned_digest)

    @cached_property
    def filter_of(self) -> Callable[[str, bool | str], Filter]:
        """`pretrained_filter` of a model and its weights, asked once for each of them."""
        return cache(
            lambda model, weights: pretrained_filter(TrialConfig(model=model, pretrained=weights))
        )

    @cached_property
    def resolve(self) -> Callable[[SplitConfig], SplitConfig]:
        """`resolve_strategy` for this source, asked once for each split."""
        return cache(partial(resolve_strategy, source=self.source))

    def identify(self, config: TrialConfig) -> str:
        return trial_id(config, self.source.fingerprint)

    @cached_property
    def variants(self) -> tuple[Format, ...]:
        """The formats that trials may ask for.

        Raises Refused when an Optuna search leaves too many of them open.
        """
        if self.sweep.search.kind != "optuna":
            return self.census.variants
        base = config_from(self.sweep, first_assignment(self.sweep), 0)
        sizes = possible_values(self.sweep, "image_size", base.image_size)
        channels = possible_values(self.sweep, "channels", base.channels)
        crops = sorted(possible(self.sweep, "crop"))
        named = ("model", "pretrained", "interpolation")
        choices = product(*(possible(self.sweep, name) for name in named))
        filters = sorted(
            {
                self.finish(base.model_copy(update=dict(zip(named, c, strict=True)))).filter
                for c in choices
            }
        )
        if len(sizes) * len(channels) * len(crops) * len(filters) > MAX_VARIANTS:
            text = (
                f"{len(sizes)} image sizes would all have to be prepared beforehand (at most "
                f"{MAX_VARIANTS}); give a list or {{choice: [...]}}"
            )
            raise Refused([Problem("axes.image_size", text)], "the grid")
        return tuple(starmap(Format, product(sizes, channels, crops, filters)))

    @property
    def num_epochs(self) -> int:
        """Of all trials together; where those are not all known, as many as examples have on
        average.
        """
        if self.sweep.search.kind in ("grid", "random"):
            return self.census.num_epochs
        examples = self.examples(frozenset({"epochs"}))
        return round(self.num_trials * fmean(config.epochs for config in examples))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The flat names of the fields in which trials differ."""
        if self.sweep.search.kind == "pbt":  # members have seeds of their own, which say nothing
            return (*moved_fields(self.sweep), "pretrained")
        if self.sweep.search.kind == "optuna":
            names = moved_fields(self.sweep)
            if any(split.folds for split in self.splits) and "split.fold" not in names:
                names = (*names, "split.fold")
            return (*names, "seed") if len(self.sweep.seeds) > 1 else names
        return self.census.fields

    @cached_property
    def census(self) -> Census:
        """What the trials of a grid, random search or population come to."""
        if self.sweep.search.kind == "grid" and self.sweep.budget.trials is None:
            return census_of_grid(self.sweep, self.finish)
        return census_of(self.configs())

    def summary(self, results: ResultsDirectory) -> dict[str, Any]:
        """What `raylab plan` prints: counts, variants with their bytes, what is already done."""
        finished = reusable_records(self.sweep, results)
        done = (
            sum(self.identify(config) in finished for config in self.known(results, finished))
            if finished
            else 0
        )
        unique = len(set(self.source.table["sha256"].to_pylist()))
        return {
            "name": self.sweep.name,
            "trials": self.num_trials,
            "done": done,
            "to_run": self.num_trials - done,
            "fields": list(self.fields),
            "folds": sorted({split.folds for split in self.splits if split.folds}),
            "notes": list(notes(self.sweep)),
            "remarks": [
                *self.source.remarks,
                *unreadable(self.images),
                *remarks(self.images, self.splits),
                *unvalidated(self.sides),
            ],
            "splits": [
                {"split": describe(split, self.images), **totals(sides)}
                for split, sides in self.sides.items()
            ],
            "num_splits": len(self.splits),
            "images": self.source.table.num_rows,
            "classes": dict(sorted(Counter(self.source.table["label"].to_pylist()).items())),
            "data_fingerprint": self.source.fingerprint,
            "variants": [
                {
                    "variant_id": variant_id(self.source, form),
                    **asdict(form),
                    "bytes": unique * form.num_bytes,
                }
                for form in self.variants
            ],
            "epochs": self.num_epochs,
            "results": results.location,
        }


def planned_digest(field: str, file: str, meant: str) -> str:
    """The digest of the file that the field names, which is `meant` unless that is ''. Else
    Refused.
    """
    subject = f"the {FILES[field]}"
    try:
        found = digest_of(field, file)
    except ValueError as error:
        raise Refused([Problem(field, str(error))], subject) from error
    if meant and found != meant:
        text = f"{file} has the digest {found}, not {meant}: its content has changed"
        raise Refused([Problem(f"{field}_digest", text)], subject)
    return found


def reusable_records(sweep: SweepConfig, results: ResultsDirectory) -> dict[str, Record]:
    """By trial_id, in brief, the records that stand for a trial of this sweep, were it run again.

    Not those of trials that were pruned where this scheduler prunes none, or whose best epoch
    another metric chose.
    """
    return {r.trial_id: r.brief for r in results.each_record() if stands(r, sweep)}


def on_their_splits(
    records: Mapping[str, Record], fingerprint: Callable[[SplitConfig], str]
) -> dict[str, Record]:
    """Those whose trials would find the same images on each side today; `fingerprint`: of a split.

    A pattern finds groups in file names, which are in no fingerprint of the data.
    """

    def stays(record: Record) -> bool:
        if not record.config["split.group_pattern"]:
            return True
        fields = {k.removeprefix("split."): v for k, v in record.config.items() if "split." in k}
        return record.split_fingerprint == fingerprint(SplitConfig.model_validate(fields))

    return {name: record for name, record in records.items() if stays(record)}


def stands(record: Record, sweep: SweepConfig) -> bool:
    """Whether running the trial in this sweep would give this record."""
    if record.status == "failed":
        return True
    ran = record.num_epochs
    if record.status == "pruned" and ran not in sweep.scheduler.rungs(ran):
        return False
    return best_epoch(record.epochs, sweep.metric).get("epoch") == record.best_epoch
