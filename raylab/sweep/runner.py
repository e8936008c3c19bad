"""The sweep itself: plan, prepare the images, run the trials on Ray Tune, gather the records."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial

import pyarrow as pa
import ray
import ray.tune
from ray.exceptions import RayError
from ray.tune.schedulers import TrialScheduler

from raylab.config.expand import num_replicas
from raylab.config.notes import notes
from raylab.config.sweep import SweepConfig
from raylab.config.trial import SplitConfig
from raylab.errors import CannotFinish
from raylab.events.broadcast import Broadcast
from raylab.events.logged import LoggedView, check_loggers
from raylab.events.metrics import MeteredView
from raylab.events.progress import View, Views, make_view
from raylab.images.cache import cache_folder
from raylab.images.enough import check_classes, check_sides, count_sides, unreadable, unvalidated
from raylab.images.prepare import Variant, image_table, prepare
from raylab.images.source import scan
from raylab.images.split import remarks, split_fingerprint
from raylab.images.variant import Format
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import environment
from raylab.results.record import Record
from raylab.storage import cannot_write
from raylab.sweep.allowance import Allowance
from raylab.sweep.cluster import Capacity, Slot, connected, image_memory_bytes, slot_for
from raylab.sweep.collector import Collector
from raylab.sweep.entry import run_trial
from raylab.sweep.failures import survive_memory_kills
from raylab.sweep.lock import Hold, held
from raylab.sweep.packing import as_trained, heaviest, packed_slot, probe, sentence, wants_probe
from raylab.sweep.parents import missing_weights, named_parents, refuse_learned, refuse_strangers
from raylab.sweep.plan import Plan, on_their_splits, reusable_records
from raylab.sweep.prior import earlier_points
from raylab.sweep.queue import (
    ListProposer,
    OptunaProposer,
    Outcome,
    PopulationProposer,
    Proposer,
    TrialQueue,
    outcome_of,
)
from raylab.sweep.shards import Images, loaded
from raylab.sweep.shared import Shared
from raylab.sweep.shared_storage import refuse_unshared
from raylab.sweep.shelf import clear_states
from raylab.sweep.tune_terms import Asha, name_of, resources_of, scheduler_of


@dataclass(frozen=True, slots=True)
class Options:
    """How a sweep runs, apart from what its grid says."""

    results: str
    address: str | None = None
    fresh: bool = False
    retry_failed: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How a sweep ended: the records of its trials, and whether it was interrupted."""

    records: tuple[Record, ...]
    """In brief."""
    interrupted: bool
    advice: str | None = None
    """Why it stopped early of its own accord, and what to do."""

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if any(record.status == "failed" for record in self.records) else 0


def run_sweep(sweep: SweepConfig, options: Options) -> Outcomes:
    """Run what is not finished yet and bring everything together in the results directory.

    Raises Refused for a sweep that cannot begin, CannotFinish for one that Ray gave up.
    Ctrl-C ends it at once with all finished trials kept, and what the others go on from.
    """
    check_loggers(sweep)
    results = ResultsDirectory(options.results)
    refuse_strangers(results, sweep)
    plan = Plan(sweep, scan(sweep.data))
    with ExitStack() as stack:
        view: View = make_view(options.quiet, sweep.metric, plan.fields, sweep.name)
        stack.enter_context(closing(view))
        view.note(f"{sweep.name}: {plan.source.table.num_rows:,} images, {plan.num_trials} trials")
        hold = stack.enter_context(held(results))  # whoever writes in the results closes before it
        broadcast = Broadcast(results, sweep.name, sweep.metric, plan.fields)
        view = Views(view, stack.enter_context(closing(broadcast)))
        capacity = stack.enter_context(connected(options.address))
        others = [stack.enter_context(closing(t)) for t in trackers(plan, results, options, view)]
        return Sweeping(plan, results, options, Views(view, *others), capacity, hold).run()


def trackers(plan: Plan, results: ResultsDirectory, options: Options, view: View) -> Iterator[View]:
    """Who else hears of the sweep: the metrics of a cluster, and the loggers that the grid names;
    these tell `view` what they cannot log.
    """
    if options.address:
        yield MeteredView(plan.sweep.name, plan.fields)
    if plan.sweep.loggers:
        yield LoggedView(plan.sweep, results, plan.fields, view.note)


class Sweeping:
    """One run of a sweep on a connected Ray."""

    train_function: Callable[..., None] = staticmethod(run_trial)
    """What Tune runs per trial; `raylab bench` puts a trial that only waits in its place."""

    def __init__(
        self,
        plan: Plan,
        results: ResultsDirectory,
        options: Options,
        view: View,
        capacity: Capacity,
        hold: Hold | None = None,
    ) -> None:
        """hold: of the results, where others might write in them."""
        self.plan, self.sweep, self.results = plan, plan.sweep, results
        self.hold = hold or Hold()
        self.options, self.view, self.capacity = options, view, capacity
        self.slot: Slot = slot_for(self.sweep.resources, capacity)
        self.image_memory_bytes = image_memory_bytes(self.sweep.resources, capacity)
        self.allowance = Allowance(self.sweep)
        self.write_split = cache(self._write_split)

    def run(self) -> Outcomes:
        """Everything, from the images to the gathered leaderboard."""
        prepared = cache_folder(self.results.location)
        refuse_unshared(self.results.folder, prepared, self.plan.source, self.capacity)
        variants, self.images = self.prepare()
        reusable = self.reusable
        proposer = self.proposer()
        configs = self.plan.configs(reusable)
        planned = {self.plan.identify(config): config.epochs for config in configs}
        known = (*planned, *map(self.plan.identify, proposer.recalled()))
        reused = {identity: reusable[identity] for identity in known if identity in reusable}
        self.clear_states(planned)

        def recorded(identity: str) -> tuple[bool, Outcome]:
            record = reusable.get(identity)
            if record is None:
                return False, None
            reused[identity] = record
            return True, outcome_of(record, self.sweep.metric)

        queue = TrialQueue(
            *(proposer, self.plan.identify, recorded),
            *(self.allowance.may_start, self.sweep.metric, named_parents(self.sweep)),
        )
        collector = self.collector(queue)
        epochs = sum(epochs for identity, epochs in planned.items() if identity not in reused)
        is_open = not planned or len(reused) < len(planned)
        if is_open:
            self.pack_gpus(variants)
        self.announce(list(reused.values()), epochs)
        interrupted = False
        try:
            if is_open:
                self.tune(self.shared(variants), queue, collector, reused)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if self.hold.taken_by is None:
                self.results.flush()
        advice = self.advice(collector, reused)
        return Outcomes(self.records_of((*reused, *collector.ended)), interrupted, advice)

    def advice(self, collector: Collector, reused: Collection[str]) -> str | None:
        """Why it stopped early of its own accord, if it did, and what to do."""
        if not collector.queue.is_cut_short:
            return collector.advice
        num_trials = self.plan.num_trials
        num_left = num_trials - len(reused) - len(collector.queue.started)
        return self.allowance.advice(num_left, num_trials)

    def records_of(self, identities: Iterable[str]) -> tuple[Record, ...]:
        """The trials' records in brief, as the results keep them."""
        wanted = dict.fromkeys(identities)
        found = (r for r in self.results.each_record() if r.trial_id in wanted)
        known = {record.trial_id: record.brief for record in found}
        return tuple(known[identity] for identity in wanted if identity in known)

    def clear_states(self, planned: Collection[str]) -> None:
        """Keep the states from which trials may go on: of this run, failed ones, and those of a
        wider grid in these results, of which the view is told.
        """
        ended = {name for name, record in self.reusable.items() if record.status != "failed"}
        staying = clear_states(self.results, None if self.options.fresh else ended)
        others = staying.difference(planned)
        if others and self.sweep.search.kind in ("grid", "random"):
            where = self.results.path_of("states")
            text = f"states of trials that this grid leaves out: {len(others):,}"
            self.view.note(f"{text}; they stay in {where} till --fresh")

    def collector(self, queue: TrialQueue) -> Collector:
        """The writer of records, which knows what earlier runs kept."""
        minutes = self.sweep.resources.trial_timeout_minutes
        collector = Collector(
            self.results,
            queue,
            lambda config: self.write_split(config.split),
            self.plan.source.fingerprint,
            self.sweep.metric,
            self.sweep.keep,
            self.view,
            self.environment_id,
            None if minutes is None else 60 * minutes,
            self.hold,
            self.plan.num_trials // num_replicas(self.sweep),
        )
        collector.resume_kept(self.results.each_record())
        return collector

    def pack_gpus(self, variants: dict[Format, Variant]) -> None:
        """`gpus: auto`: let as many trials share a GPU as a probe of the heaviest ones allows."""
        if not wants_probe(self.sweep.resources, self.capacity):
            return
        configs = heaviest(as_trained(self.plan.largest(), len(self.images.labels)))
        image_bytes = {form: variant.num_bytes for form, variant in variants.items()}
        footprints = probe(configs, len(self.images.classes), image_bytes)
        self.slot = packed_slot(self.sweep.resources, self.capacity, footprints)
        for config, footprint in zip(configs, footprints, strict=True):
            self.view.note(sentence(config, footprint))
        self.view.note(f"{round(1 / self.slot.gpus_per_worker)} trials share a GPU")

    def proposer(self) -> Proposer:
        """Where the configs come from; an Optuna search first draws again what it drew before, and
        a population begins with the generation that is not finished.
        """
        if self.sweep.search.kind == "pbt":
            population = self.plan.population(self.reusable)
            missing = partial(missing_weights, self.results)
            return PopulationProposer(population, self.plan.num_trials, missing)
        if self.sweep.search.kind != "optuna":
            return ListProposer(self.plan.configs())
        remember = self.results.write_draws
        found = OptunaProposer(self.sweep, self.plan.finish, self.plan.num_trials, remember)
        if self.sweep.search.warm_start is not None:
            earlier = ResultsDirectory(self.sweep.search.warm_start)
            num = found.learn(earlier_points(self.sweep, earlier.records()))
            self.view.note(f"Optuna begins with {num} configs of {earlier.location}")
        found.recall([] if self.options.fresh else self.results.draws())
        return found

    def announce(self, reused: list[Record], epochs: int) -> None:
        """Tell the view how much there is to do; some searches plan their trials as they go."""
        if self.sweep.search.kind in ("optuna", "pbt"):
            left = self.plan.num_trials - len(reused)
            epochs = round(self.plan.num_epochs * left / self.plan.num_trials)
        self.view.planned(self.plan.num_trials, reused, self.slot.num_slots, epochs)

    def prepare(self) -> tuple[dict[Format, Variant], Images]:
        """Every variant on disk, and images.parquet, grid.yaml, environment.json written."""
        variants: dict[Format, Variant] = {}
        folder = cache_folder(self.results.location)
        for form in self.plan.variants:
            progress = partial(self.view.preparing, str(form))
            variants[form] = prepare(self.plan.source, form, folder, progress)
        first = min(variants.values(), key=lambda variant: variant.crop)  # `face`, if there is one
        table = image_table(self.plan.source, first)
        self.results.write_images(table)
        where = self.results.path_of("images.parquet")
        check_classes(table, where)
        self.results.write_grid(self.sweep.as_grid())
        self.environment_id = self.results.write_environment(environment())
        for line in unreadable(table):
            self.view.note(f"{line}; see {where}")
        faceless = sum(face == "none" for face in table["face"].to_pylist())
        if faceless:
            text = f"no face in {faceless:,} of {table.num_rows:,} images, which are kept whole"
            self.view.note(f"{text}; see {where}, face: none")
        told = (*self.plan.source.remarks, *remarks(table, self.plan.splits), *notes(self.sweep))
        for line in told:
            self.view.note(line)
        self.results.flush()  # an empty leaderboard can be read too
        source = self.plan.source
        images = Images.of(table, source.classes, source.fingerprint)
        images.check_rows(variants.values())
        sides = {split: count_sides(images.table, split) for split in self.plan.splits}
        check_sides(images.table, sides, source.location)
        beginnings = self.plan.beginnings(named_parents(self.sweep))
        refuse_learned(self.results, images, beginnings)
        for line in unvalidated(sides):
            self.view.note(line)
        return variants, images

    def _write_split(self, split: SplitConfig) -> str:
        """The split's fingerprint; its image_ids are written so that they can be read back."""
        assignment = self.images.split(split)
        fingerprint = split_fingerprint(assignment, self.images.image_ids)
        if not self.results.has_split(fingerprint):
            table = pa.table({"image_id": self.images.image_ids, "split": assignment})
            self.results.write_split(fingerprint, table)
        return fingerprint

    @cached_property
    def reusable(self) -> dict[str, Record]:
        """Earlier records that stand for trials of this sweep."""
        if self.options.fresh:
            return {}
        known = on_their_splits(reusable_records(self.sweep, self.results), self.write_split)
        if not self.options.retry_failed:
            return known
        again = self.plan.to_retry(known)
        return {name: record for name, record in known.items() if name not in again}

    def shared(self, variants: dict[Format, Variant]) -> Shared:
        """What goes to Ray's object store, once for all trials."""
        return Shared(
            images=self.images,
            variants=loaded(variants, self.image_memory_bytes, self.view.note),
            results=self.results.location,
            metric=self.sweep.metric,
            slot=self.slot,
            keep_weights=self.sweep.keep > 0 or self.sweep.search.kind == "pbt",
            may_prune=self.sweep.scheduler.kind != "none",
        )

    def scheduler(self, reused: Collection[str]) -> TrialScheduler:
        """Whether trials are stopped early; one that compares them knows those of earlier runs."""
        found = scheduler_of(self.sweep, self.plan.configs())
        if isinstance(found, Asha):
            found.recall(self.results.epochs(), reused)
        return found

    def tuner(
        self, shared: Shared, queue: TrialQueue, collector: Collector, reused: Collection[str]
    ) -> ray.tune.Tuner:
        """Ray Tune with the queue before it; `reused` are the trials of earlier runs."""
        trainable = ray.tune.with_parameters(self.train_function, shared=shared)
        filesystem, path = self.results.scratch("tune").opened()
        return ray.tune.Tuner(
            ray.tune.with_resources(trainable, resources_of(self.slot)),
            tune_config=ray.tune.TuneConfig(
                search_alg=queue,
                scheduler=self.scheduler(reused),
                num_samples=-1,
                max_concurrent_trials=self.slot.num_slots,
                # A bound method would be pickled with the plan, all of its images and the view.
                trial_name_creator=partial(name_of, self.plan.fields),
                trial_dirname_creator=lambda trial: f"{trial.config['trial_id']}_{trial.trial_id}",
                # A pruned worker group ends with its actor; one process trains on.
                reuse_actors=self.slot.workers == 1,
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=path,
                storage_filesystem=filesystem,
                callbacks=[collector],
                failure_config=ray.tune.FailureConfig(max_failures=-1),  # the collector counts
                verbose=0,
            ),
        )

    def tune(
        self, shared: Shared, queue: TrialQueue, collector: Collector, reused: Collection[str]
    ) -> None:
        """Hand the queue to Ray Tune and return when it is empty."""
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is a KeyboardInterrupt here
        survive_memory_kills()
        try:
            self.tuner(shared, queue, collector, reused).fit()
            queue.check_ended()
        except OSError as error:  # the results' storage, to which Ray itself writes
            raise cannot_write(self.results.location, error) from error
        except (ray.tune.TuneError, RayError) as error:
            raise CannotFinish(
                f"Ray Tune gave up: {error}\nEverything finished is kept; the same command "
                "goes on from there."
            ) from error
        finally:
            if self.hold.taken_by is None:
                with suppress(OSError):  # interrupted trials may still be writing there
                    self.results.delete_scratch()
