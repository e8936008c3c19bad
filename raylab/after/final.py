"""From a finished sweep to its answer: the winner retrained, the test split scored.

The only code that reads a test label is `score`; training hands it probabilities. How often it was
asked is kept in final.json.

N = images of the source, T = test images, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from rich.console import Console

from raylab import __version__
from raylab.after.earlier import (
    check_same_data,
    config_of,
    images_of,
    latest,
    read_sweep,
    sides_of,
)
from raylab.after.retrain import Job, Retrained, retrain_all, variants_of, write_model
from raylab.config.files import checked, parent_of
from raylab.config.sweep import SweepConfig
from raylab.errors import Problem, Refused
from raylab.events.progress import LogView, View, Views
from raylab.events.tally import short_name
from raylab.images.cache import cache_folder
from raylab.images.source import Source, scan
from raylab.images.suspects import unsuspected
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import environment, git_sha
from raylab.results.greedy import greedy_weights, label_probs
from raylab.results.intervals import wilson
from raylab.results.winners import Family, ranked_families
from raylab.sweep.cluster import connected
from raylab.sweep.lock import held
from raylab.sweep.parents import learned_by, learned_text, num_among, refuse_orphan
from raylab.sweep.shards import Images
from raylab.training.metrics import accuracy, confusion_counts, macro_f1

UNREAD = "no test label was read"


@dataclass(frozen=True, slots=True)
class FinalOptions:
    """What `raylab final` was asked for."""

    results: str
    top: int = 1
    """So many families are retrained and scored, each a look at the test split."""
    ensemble: int | None = None
    """So many families at most are retrained, and the mean of their probabilities, weighed by what
    they said of the validation images, is scored in one look."""
    again: bool = False
    """Whether a test split that was scored before may be scored again."""
    data: str | None = None
    address: str | None = None
    quiet: bool = False

    @property
    def num_families(self) -> int:
        return self.ensemble or self.top

    @property
    def num_looks(self) -> int:
        return 1 if self.ensemble else self.top

    @property
    def what(self) -> str:
        if self.ensemble:
            return f"ensemble of up to {self.ensemble}"
        return "winner" if self.top == 1 else f"top {self.top}"


def run_final(options: FinalOptions) -> dict[str, Any]:
    """Retrain and score what `options` ask for; returns what final.json then holds.

    Raises Refused where there is nothing to score, the data is not the sweep's, the test split was
    scored before, or a sweep still runs; CannotFinish when the retraining fails.
    """
    results = ResultsDirectory(options.results)
    check_options(options)
    sweep = read_sweep(results, options.data)
    with held(results):  # half a sweep has no winner, and two looks at once would count as one
        return retrain_and_score(sweep, results, options)


def retrain_and_score(
    sweep: SweepConfig, results: ResultsDirectory, options: FinalOptions
) -> dict[str, Any]:
    """`run_final` once nobody else writes in the results directory."""
    view: View = Views()
    if not options.quiet:
        view = LogView(Console(stderr=True), "val_accuracy", ())
    check_not_scored(results, options)
    source = scan(sweep.data)
    families = candidates(results, source, sweep.metric, options)
    if lacking := sum(family.num_lacking > families[0].num_lacking for family in families):
        view.note(f"{lacking} of {len(families)} families lack a fold; they rank after the others")
    images = images_of(results, source, UNREAD)
    chosen = choose(families, results, options)
    jobs = [job_for(choice.family, images, results) for choice in chosen]
    check_same_test(jobs, options)
    with connected(options.address) as capacity:
        configs = [job.config for job in jobs]
        variants = variants_of(configs, source, cache_folder(results.location), view)
        images.check_rows(variants.values())
        retrained = retrain_all(jobs, images, variants, sweep.resources, capacity, view)
    for job, model in zip(jobs, retrained, strict=True):
        write_model(results.final_model(job.trial_id), job, images.classes, model)
    report = report_on(options, families, chosen, jobs, retrained, images, results)
    results.write_final(report)  # right behind the look, so that none goes uncounted
    return report


def refuse(place: str, text: str) -> NoReturn:
    """One problem, and nothing was trained."""
    raise Refused([Problem(place, text)], "the request", UNREAD)


def check_options(options: FinalOptions) -> None:
    """--top and --ensemble are two questions."""
    if options.ensemble and options.top > 1:
        refuse("--top and --ensemble", "ask for one of them; each is its own look at the test")


def check_not_scored(results: ResultsDirectory, options: FinalOptions) -> None:
    """Each further look at the test split makes its score a little more a matter of choice."""
    before = results.final()
    if before and not options.again:
        accuracy_then = before["test"]["accuracy"]
        refuse(
            results.path_of("final.json"),
            f"the test split was scored already ({before['scorings']} looks so far), last on "
            f"{before['scored_at'][:10]} ({before['what']}: {accuracy_then:.4f}); "
            "choosing by it again would make it a validation split; --again does so and counts",
        )


def candidates(
    results: ResultsDirectory, source: Source, metric: str, options: FinalOptions
) -> list[Family]:
    """The families that learned from these very images, the best first; Refused if too few."""
    records = results.records()
    if not records:
        refuse(results.location, "holds no finished trial; run the sweep first")
    check_same_data(source, records, "the sweep")
    same = latest(r for r in records if r.data_fingerprint == source.fingerprint)
    families = ranked_families(same, metric)
    if len(families) < options.num_families:
        text = f"{len(families)} families have a complete trial, {options.num_families} are wanted"
        refuse(results.location, f"{text}; finish the sweep, or ask for fewer")
    return families


@dataclass(frozen=True, slots=True)
class Choice:
    """A family that is retrained."""

    family: Family
    rank: int
    """1-based, among all families."""
    weight: float
    """Of its probabilities in the ensemble; 1 where each is scored alone."""


def choose(
    families: Sequence[Family], results: ResultsDirectory, options: FinalOptions
) -> list[Choice]:
    """The best families; for an ensemble those that the greedy selection takes of all that
    validated the best one's images. It sees stored validation predictions, and no other.
    """
    if not options.ensemble:
        return [Choice(family, i + 1, 1.0) for i, family in enumerate(families[: options.top])]
    ranks, of_label, images = [], [], None
    for rank, family in enumerate(families):
        alike = [r for r in family.records if r.config["seed"] == family.first.config["seed"]]
        try:
            ids, probs = label_probs(results.predictions(record.trial_id) for record in alike)
        except FileNotFoundError:
            continue
        images = ids if images is None else images
        if np.array_equal(ids, images):
            ranks.append(rank)
            of_label.append(probs)
    if len(ranks) < 2:
        text = f"{len(ranks)} families have predictions of the best one's validation images"
        refuse(f"--ensemble {options.ensemble}", f"{text}; an ensemble takes 2")
    weights = greedy_weights(np.stack(of_label), options.ensemble)
    return [
        Choice(families[rank], rank + 1, float(weight))
        for rank, weight in zip(ranks, weights, strict=True)
        if weight > 0
    ]


def job_for(family: Family, images: Images, results: ResultsDirectory) -> Job:
    """What retraining the family takes. Refused if its split cannot be made again or tests nothing,
    or if the weights with which it began, its suspects or its teacher are gone or others now.

    Of a cross-validated family too, all that is not test trains.
    """
    record = family.first
    config = config_of(record)
    refuse_orphan(results, record.trial_id, config, UNREAD)
    sides = sides_of(record, images, UNREAD)
    test = np.flatnonzero(sides == "test")
    if not len(test):
        remedy = "set split.test > 0"
        if config.split.strategy == "given":
            remedy = "name some in the source, or set split.strategy: stratified"
        refuse(f"trial {record.trial_id}", f"its split locks no test images; {remedy}")
    begun = parent_of(config.pretrained)
    if begun and (num := num_among(images, test, learned_by(results, [begun])[begun])):
        refuse(f"trial {record.trial_id}", learned_text(begun, num))
    train = np.flatnonzero((sides == "train") | (sides == "val"))
    try:
        if isinstance(config.pretrained, str) and parent_of(config.pretrained) is None:
            checked("pretrained", config.pretrained, config.pretrained_digest)
        if config.drop_suspects:
            train = unsuspected(train, images.image_ids, config)
        images.taught(config, test)  # asked here as well, before anything is prepared or started
    except ValueError as error:
        refuse(f"trial {record.trial_id}", str(error))
    return Job(
        trial_id=record.trial_id,
        config=config,
        train=train,
        test=test,
        num_epochs=family.num_epochs,
        val_losses=tuple(float(epoch["val_loss"] or 0) for epoch in record.epochs),
        results=results.location,
    )


def check_same_test(jobs: Sequence[Job], options: FinalOptions) -> None:
    """An image that one of an ensemble trained on cannot test the ensemble."""
    if options.ensemble and any(not np.array_equal(job.test, jobs[0].test) for job in jobs):
        text = "its families lock different test images (an axis moves the split)"
        refuse(f"--ensemble {options.ensemble}", f"{text}; use --top")


def score(
    labels: npt.NDArray[np.int64], probs: npt.NDArray[np.float32], classes: Sequence[str]
) -> dict[str, Any]:
    """labels: int64 (T,); probs: (T, K). Accuracy with its 95 % Wilson interval, macro F1,
    confusion (rows = true class), recall per class (None for one without test images).
    """
    counts = confusion_counts(labels, probs.argmax(1).astype(np.int64), len(classes))
    low, high = wilson(int(np.trace(counts)), int(counts.sum()))
    totals = counts.sum(1)
    return {
        "accuracy": accuracy(counts),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": macro_f1(counts),
        "num_images": int(counts.sum()),
        "recall": {
            name: int(counts[k, k]) / int(totals[k]) if totals[k] else None
            for k, name in enumerate(classes)
        },
        "classes": list(classes),
        "confusion": counts.tolist(),
    }


def report_on(
    options: FinalOptions,
    families: Sequence[Family],
    chosen: Sequence[Choice],
    jobs: Sequence[Job],
    retrained: Sequence[Retrained],
    images: Images,
    results: ResultsDirectory,
) -> dict[str, Any]:
    """All that final.json says; here the test labels are read."""
    names = names_of(families)
    models = []
    for choice, job, model in zip(chosen, jobs, retrained, strict=True):
        entry = describe(choice.family, job, model)
        entry |= {"rank": choice.rank, "name": names[choice.rank - 1]}
        if options.ensemble:
            entry["weight"] = choice.weight
        else:
            entry["test"] = score(images.labels[job.test], model.fit.probs, images.classes)
        models.append(entry)
    if options.ensemble:
        weights = [choice.weight for choice in chosen]
        probs = np.average([model.fit.probs for model in retrained], axis=0, weights=weights)
        test = score(images.labels[jobs[0].test], probs, images.classes)
    else:
        test = models[0]["test"]  # the first by validation, whatever the others reach here
    before = results.final() or {"scorings": 0, "history": []}
    scored_at = datetime.now(UTC).isoformat(timespec="seconds")
    look = {
        "scored_at": scored_at,
        "what": options.what,
        "looks": options.num_looks,
        "trial_ids": [job.trial_id for job in jobs],
        "accuracy": test["accuracy"],
    }
    return {
        "scorings": before["scorings"] + options.num_looks,
        "scored_at": scored_at,
        "what": options.what,
        "num_families": len(families),
        "test": test,
        "models": models,
        "data_fingerprint": images.fingerprint,
        "raylab_version": __version__,
        "git_sha": git_sha(),
        "environment_id": results.write_environment(environment()),
        "history": [*before["history"], look],
    }


def names_of(families: Sequence[Family]) -> list[str]:
    """Each family by the fields in which it differs from the others."""
    configs = [family.first.config for family in families]
    fields = [
        key
        for key in configs[0]
        if key not in ("seed", "split.fold") and len({config.get(key) for config in configs}) > 1
    ]
    return [short_name(config, fields) for config in configs]


def describe(family: Family, job: Job, model: Retrained) -> dict[str, Any]:
    """One retrained model: who it is, why it was chosen, how it was made."""
    record = family.first
    accuracies = [r.val_accuracy for r in family.records if r.val_accuracy is not None]
    return {
        "trial_id": record.trial_id,
        "family_id": record.family_id,
        "config": dict(record.config),
        "chosen_by": family.reasons(),
        "val_accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "split_fingerprint": record.split_fingerprint,
        "num_train": len(job.train),
        "epochs": job.num_epochs,
        "train_loss": model.fit.train_loss,
        "train_accuracy": model.fit.train_accuracy,
        "device": model.device,
        "seconds": model.seconds,
        "model": f"final/{job.trial_id}",
    }
