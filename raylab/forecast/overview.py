"""From a plan to what `raylab plan` tells of it; starts nothing, and without a probe loads neither
Ray nor, unless faces are cut out or weights are pretrained, torch.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle, islice
from typing import Any

from raylab.config.sweep import Resources
from raylab.config.trial import TrialConfig
from raylab.forecast.estimate import Estimate, Measured, estimate, local_slots
from raylab.forecast.measured import measured_trials
from raylab.forecast.spread import Spread
from raylab.forecast.workload import TIMED, Workload, workload_name
from raylab.images.cache import cache_folder, is_prepared, variant_folder
from raylab.images.sample import Sampled, sample
from raylab.machine import num_cpus
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import num_visible_gpus
from raylab.results.record import Record
from raylab.storage import Folder
from raylab.sweep.plan import Plan, reusable_records

# Ray's workers import the decoder before the first image.
PREPARE_START_S = 1.0


@dataclass(frozen=True)
class Question:
    """What is asked of a plan beside its counts."""

    results: ResultsDirectory
    reuse: tuple[ResultsDirectory, ...] = ()
    """Where else to look for trials that are done, and for measured ones."""
    measured: Measured | None = None
    """A probe's speeds; None = those of measured trials, if there are some."""
    slots: int | None = None
    """Trials side by side; None = as many as this machine holds."""
    top: int = 20
    """Rows of the table of trials."""


def overview(plan: Plan, question: Question) -> dict[str, Any]:
    """`Plan.summary` with the first trials, the variants' sizes, other results, time and cost."""
    results = question.results
    found = plan.summary(results)
    known = [(each, reusable_records(plan.sweep, each)) for each in (results, *question.reuse)]
    sampled = [sample(plan.source, form) for form in plan.variants]
    cache = cache_folder(results.location)
    for variant, costs in zip(found["variants"], sampled, strict=True):
        variant |= variant_sizes(variant, costs, cache)
    shown = islice(plan.known(results, known[0][1]), question.top)
    found["rows"] = [row_of(plan, config, known) for config in shown]
    found["elsewhere"] = elsewhere(plan, known)
    prepare = preparation(found, sampled)
    found["time"] = time_of(plan, found["to_run"], known[0][1], question, prepare)
    return found


def waiting(plan: Plan, num_waiting: int, done: Mapping[str, Record]) -> list[TrialConfig]:
    """The trials that are not done; of a population as many like its first ones, of Optuna those
    whose average each takes.
    """
    if plan.sweep.search.kind == "optuna":
        return list(plan.examples(TIMED))
    if plan.sweep.search.kind == "pbt":
        return list(islice(cycle(plan.examples(TIMED)), num_waiting))
    return [config for config in plan.configs() if not done or plan.identify(config) not in done]


def variant_sizes(variant: dict[str, Any], costs: Sampled | None, cache: Folder) -> dict[str, Any]:
    """Whether it is prepared, and its bytes on disk: as they are, else foreseen from a sample."""
    name, num_images = variant["variant_id"], variant["bytes"] / bytes_per_image(variant)
    ready = is_prepared(cache, name)
    folder = variant_folder(cache, name)
    if ready and folder.is_local:
        on_disk = sum(os.path.getsize(folder.path_of(part)) for part in folder.names())
    else:
        on_disk = round(num_images * costs.bytes_on_disk) if costs else variant["bytes"]
    return {"prepared": ready, "disk_bytes": on_disk}


def bytes_per_image(variant: dict[str, Any]) -> int:
    """Of its pixels in memory."""
    return int(variant["image_size"] ** 2 * variant["channels"])


def row_of(
    plan: Plan,
    config: TrialConfig,
    known: Sequence[tuple[ResultsDirectory, dict[str, Record]]],
) -> dict[str, Any]:
    """A trial by what tells it from the others, and where it is done already."""
    identity, flat = plan.identify(config), config.flat()
    places = [each.location for each, records in known if identity in records]
    values = {name: flat[name] for name in plan.fields}
    return {"trial_id": identity, **values, "done_in": places[0] if places else None}


def elsewhere(
    plan: Plan, known: Sequence[tuple[ResultsDirectory, dict[str, Record]]]
) -> dict[str, int]:
    """By other results directory, how many trials are done there and not here."""
    done, counts = known[0][1], {}
    for directory, records in known[1:]:
        fresh = records.keys() - done.keys()
        counts[directory.location] = (
            sum(plan.identify(config) in fresh for config in plan.configs(records)) if fresh else 0
        )
    return counts


def preparation(found: dict[str, Any], sampled: Sequence[Sampled | None]) -> Spread:
    """Seconds until every variant is prepared, on all CPUs of this machine."""
    seconds = sum(
        costs.seconds * variant["bytes"] / bytes_per_image(variant)
        for variant, costs in zip(found["variants"], sampled, strict=True)
        if costs and not variant["prepared"]
    )
    if not seconds:
        return Spread.exactly(0.0)
    mid = seconds / num_cpus() + PREPARE_START_S
    return Spread(mid / 2, mid, 2 * mid)


def time_of(
    plan: Plan,
    num_waiting: int,
    done: Mapping[str, Record],
    question: Question,
    prepare: Spread,
) -> dict[str, Any]:
    """`{"seconds": …, "usd": …, …}`, or `{"unknown": why}`."""
    if not num_waiting:
        return {"unknown": "nothing is left to run"}
    resources = plan.sweep.resources
    measured = question.measured
    if measured is None:
        measured = measured_trials((question.results, *question.reuse), resources.workers)
    if measured is None:
        return {"unknown": "unknown: nothing was measured yet; --probe trains a few steps"}
    num_gpus = num_visible_gpus()
    slots = question.slots or local_slots(resources, num_gpus)
    if not slots:
        return {"unknown": "unknown: not one trial fits here; --slots says how many run at once"}
    configs = waiting(plan, num_waiting, done)
    averaged = num_waiting if plan.sweep.search.kind == "optuna" else None
    foreseen = estimate(plan, configs, measured, slots, prepare, averaged)
    if isinstance(foreseen, list):
        return {"unknown": unmeasured(foreseen)}
    found = limits(plan, configs, foreseen.whole) + packing(resources, slots, num_gpus)
    return {**estimate_json(plan, foreseen), "remarks": found}


def unmeasured(workloads: list[Workload]) -> str:
    """Which kinds of trial nobody has seen."""
    names = list(dict.fromkeys(map(workload_name, workloads)))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"unknown: never measured: {'; '.join(names[:3])}{more}; --probe trains a few steps"


def estimate_json(plan: Plan, foreseen: Estimate) -> dict[str, Any]:
    """The estimate, its cost, and when it would end."""
    rate, whole = plan.sweep.resources.usd_per_hour, foreseen.whole
    ends = datetime.now().astimezone() + timedelta(seconds=whole.mid)
    return {
        "seconds": whole.as_json(),
        "start_s": foreseen.start.mid,
        "prepare_s": foreseen.prepare.mid,
        "trials_s": foreseen.trials.mid,
        "slots": foreseen.slots,
        "basis": foreseen.basis,
        "ends_at": ends.isoformat(timespec="seconds"),
        "usd": None if rate is None else whole.times(rate / 3600).as_json(),
        "asha_share": None if plan.sweep.scheduler.kind == "none" else foreseen.share.as_json(),
    }


def limits(plan: Plan, configs: Sequence[TrialConfig], whole: Spread) -> list[str]:
    """What an estimate from these configs cannot know, and where a budget ends the sweep before."""
    budget, rate = plan.sweep.budget, plan.sweep.resources.usd_per_hour
    hours = [budget.hours] if budget.hours is not None else []
    if budget.usd is not None and rate:
        hours.append(budget.usd / rate)
    found = []
    if plan.sweep.search.kind == "optuna" and len(configs) > 1:
        text = f"Optuna decides as it goes: time and epochs are averages of {len(configs)} draws"
        found.append(text)
    if hours and min(hours) * 3600 < whole.mid:
        text = f"budget: no trial starts after {min(hours):.3g} h"
        found.append(f"{text}, about {min(hours) * 3600 / whole.mid:.0%} of the way")
    if any(config.patience for config in configs):
        found.append("patience ends trials early: this is the most it takes")
    return found


def packing(resources: Resources, slots: int, num_gpus: int) -> list[str]:
    """What `gpus: auto` may make better than was estimated."""
    if resources.gpus != "auto" or resources.workers > 1 or slots != num_gpus:
        return []
    return ["gpus: auto may let trials share a GPU, as the sweep measures first: --slots N"]
