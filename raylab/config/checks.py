"""What in a sweep contradicts itself: values that are each fine and make no sense together."""

import contextlib
import itertools
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from raylab.config.expand import (
    CROSS_CHECKED,
    assignments,
    config_from,
    count_trials,
    cross_checked,
    decisive,
    disagreement,
    exclusion,
    fold_axes,
    num_points,
    num_product,
    num_replicas,
    replicas,
    sample,
)
from raylab.config.fields import root
from raylab.config.findings import Findings
from raylab.config.marked import Path
from raylab.config.sweep import EPOCH_METRICS, MAX_TRIALS, Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.config.wording import shown
from raylab.errors import CannotFinish

_MAX_CHECKED_DRAWS = 200
# What members of a population must have in common: weights of one shape, images, time, a score.
_COMMON = {
    **dict.fromkeys(("model", "channels"), "its members take over each other's weights"),
    **dict.fromkeys(
        ("image_size", "interpolation", "crop", "teacher"), "its members learn from the same images"
    ),
    "split": "its members are ranked on the same images",
    "pretrained": "which says with whose weights a member goes on",
    "epochs": "which says how long a generation is",
}


@dataclass(frozen=True)
class Need:
    """What another field must be: this value, or with None any file."""

    field: str
    value: str | None

    def is_met(self, given: Any) -> bool:
        """Whether the field, given so, is what it must be."""
        return bool(given) if self.value is None else given == self.value

    def __str__(self) -> str:
        return f"{self.field} is {self.value or 'given'}"


SERVES = {
    "focal_gamma": Need("loss", "focal"),
    "gce_q": Need("loss", "gce"),
    "effective_beta": Need("class_weights", "effective"),
    "teacher_weight": Need("teacher", None),
}
"""Fields that are read only where another one is what it must be."""


def contradictions(sweep: SweepConfig, findings: Findings, *, is_resolved: bool = False) -> None:
    """Note every contradiction in `findings`. is_resolved: raylab wrote the grid, which may say for
    one trial what only others of its sweep read.
    """
    _repeated_axes(sweep, findings)
    _overruled_options(sweep, findings)
    if not is_resolved:
        _idle_fields(sweep, findings)
        _levers_alike(sweep, findings)
    _levers(sweep, findings)
    _search(sweep, findings)
    if sweep.search.kind == "pbt":
        _population(sweep, findings)
    _scheduler(sweep, findings)
    _resources(sweep, findings)
    if sweep.budget.usd is not None and sweep.resources.usd_per_hour is None:
        findings.add(("budget", "usd"), "needs resources.usd_per_hour to be counted")
    if sweep.search.kind != "grid":
        _drawn_configs(sweep, findings)
    elif _is_listed(sweep) and not _too_many(sweep, findings):
        _grid_configs(sweep, findings)


def _is_listed(sweep: SweepConfig) -> bool:
    return not any(isinstance(axis, Distribution) for axis in sweep.axes.values())


def _axis_places(sweep: SweepConfig) -> list[tuple[str, Path]]:
    """(field, where) of every axis, zipped ones included."""
    places: list[tuple[str, Path]] = [(key, ("axes", key)) for key in sweep.axes]
    for index, group in enumerate(sweep.zip):
        places += [(key, ("zip", index, key)) for key in group]
    return places


def _lever_places(sweep: SweepConfig) -> list[tuple[str, Path]]:
    """(field, where) of everything that a lever changes."""
    levers = enumerate(sweep.levers)
    return [(key, ("levers", index, key)) for index, lever in levers for key in lever]


def _levers(sweep: SweepConfig, findings: Findings) -> None:
    """Levers are of a grid, stand on no axis, and change something."""
    if sweep.levers and sweep.search.kind != "grid":
        findings.add(("levers",), "are pulled one at a time, which needs search: grid")
    axes = {key: where[0] for key, where in _axis_places(sweep)}
    for key, where in _lever_places(sweep):
        if key in axes:
            text = f"{key} stands in {axes[key]} too; a lever is pulled at every point of the axes"
            findings.add(where, text)
            findings.spoiled.update(CROSS_CHECKED)
    base = sweep.model_copy(update={"axes": {}, "zip": ()})
    for index, lever in enumerate(sweep.levers):
        with contextlib.suppress(ValidationError):  # told where fields disagree
            if config_from(base, lever, 0) == config_from(base, {}, 0):
                findings.add(("levers", index), "changes nothing: the trial has it already")


def _levers_alike(sweep: SweepConfig, findings: Findings) -> None:
    """Levers that make the same trial, in other words maybe: it would run once only."""
    base = sweep.model_copy(update={"axes": {}, "zip": ()})
    moved = {root(key) for key, _ in _axis_places(sweep)}
    first: dict[TrialConfig, int] = {}
    for index, lever in enumerate(sweep.levers):
        if moved & set(map(root, lever)):  # split.train 0.7 is split.val 0.2 at one split.test only
            continue
        with contextlib.suppress(ValidationError):  # told where fields disagree
            earlier = first.setdefault(config_from(base, lever, 0), index)
            if earlier != index:
                text = f"is the same trial as levers[{earlier}]; take one of them out"
                findings.add(("levers", index), text)


def _repeated_axes(sweep: SweepConfig, findings: Findings) -> None:
    first: dict[str, Path] = {}
    for key, where in _axis_places(sweep):
        if key in first:
            other = "axes" if first[key][0] == "axes" else "another zip group"
            findings.add(where, f"{key} stands in {other} too; a field moves on one axis only")
            findings.spoiled.update(CROSS_CHECKED)
        first.setdefault(key, where)


def _overruled_options(sweep: SweepConfig, findings: Findings) -> None:
    """`--set trial.lr=1` does nothing where lr is an axis, nor does `--set trial.split.test=0.2`
    where split is one: better said than swallowed.
    """
    axes = dict(_axis_places(sweep))
    for path in findings.places:
        key = ".".join(map(str, path[1:]))
        axis = key if key in axes else root(key)
        if path[0] == "trial" and axis in axes:
            where = ".".join(map(str, axes[axis]))
            findings.add(path, f"{axis} is an axis of this grid; set {where} instead")


def _idle_fields(sweep: SweepConfig, findings: Findings) -> None:
    """An axis, or a value that someone chose, which no trial would read."""
    places = dict(_axis_places(sweep))
    for key, need in SERVES.items():
        text = f"does nothing unless {need}; set that, or take this out"
        default = TrialConfig.model_fields[key].default
        axis = _axis(sweep, need.field)
        known = axis if isinstance(axis, tuple) else (sweep.trial.get(need.field),)
        for index, lever in enumerate(sweep.levers):
            given = (lever[need.field],) if need.field in lever else known
            if key in lever and not any(map(need.is_met, given)):
                findings.add(("levers", index, key), text)
        is_chosen = key in places or sweep.trial.get(key, default) != default
        pulled = (lever.get(need.field) for lever in sweep.levers)
        if is_chosen and not any(map(need.is_met, (*known, *pulled))):
            findings.add(places.get(key, ("trial", key)), text)


def _search(sweep: SweepConfig, findings: Findings) -> None:
    search = sweep.search
    if search.kind == "grid":
        for key, axis in sweep.axes.items():
            if isinstance(axis, Distribution):
                text = f"{axis.kind} needs search: {{random: {{num_trials: …}}}} or optuna"
                findings.add(("axes", key), f"{text}; a grid has lists")
        return
    if search.num_trials is None and search.kind != "pbt":
        text = f"num_trials is missing; write {{{search.kind}: {{num_trials: 40}}}}"
        findings.add(("search",), text)
    broken = any(problem.text.startswith(("axes", "zip")) for problem in findings.problems)
    if not sweep.axes and not sweep.zip and not broken:
        findings.add(("search",), f"{search.kind} has no axes to search; add axes")
    if search.kind == "optuna" and sweep.exclude:
        findings.add(("exclude",), "optuna cannot leave configs out; use random, or narrow axes")
    if search.kind == "optuna" and (keys := fold_axes(sweep)):
        where = dict(_axis_places(sweep))[keys[0]]
        findings.add(where, "optuna compares like with like: set split.folds under trial instead")


def _population(sweep: SweepConfig, findings: Findings) -> None:
    """What a population cannot do, or needs."""
    is_read = not any(problem.text.startswith("search") for problem in findings.problems)
    for name in ("population", "generations"):
        if is_read and getattr(sweep.search, name) is None:
            text = f"{name} is missing; write {{pbt: {{population: 8, generations: 5}}}}"
            findings.add(("search", "pbt"), text)
    if len(sweep.seeds) > 1:
        findings.add(("seeds",), "pbt counts its trials' seeds on from one; list that one alone")
    if sweep.zip:
        findings.add(("zip",), "pbt moves every axis on its own; write these under axes")
    if sweep.exclude:
        findings.add(("exclude",), "pbt cannot leave configs out; narrow the axes")
    if sweep.scheduler.kind != "none":
        text = "pbt ranks whole trials and stops none early; take the scheduler out"
        findings.add(("scheduler",), text)
    if num_replicas(sweep) > len(sweep.seeds):
        findings.add(("trial", "split"), "pbt ranks its members on one split; take the folds out")
    for key in sweep.axes:
        if reason := _COMMON.get(root(key)):
            findings.add(("axes", key), f"pbt cannot move {key}, {reason}; set it under trial")


def _scheduler(sweep: SweepConfig, findings: Findings) -> None:
    if sweep.scheduler.kind == "none":
        return
    where = ("scheduler", sweep.scheduler.kind)
    if sweep.metric not in EPOCH_METRICS:
        allowed = ", ".join(EPOCH_METRICS)
        text = f"{sweep.metric} is not known after each epoch, asha needs one of {allowed}"
        findings.add(("metric",), text)
    epochs = _largest(sweep, "epochs")
    if "epochs" not in findings.spoiled and sweep.scheduler.grace_epochs >= epochs:
        text = f"grace_epochs {sweep.scheduler.grace_epochs} is not < epochs {epochs:g}"
        findings.add(where, f"{text}; no trial could be stopped early")


def _resources(sweep: SweepConfig, findings: Findings) -> None:
    workers, gpus = sweep.resources.workers, sweep.resources.gpus
    where = ("resources",)
    if gpus != "auto":
        if gpus > workers and gpus % workers:
            text = f"gpus {gpus:g} is neither a fraction of one GPU nor a whole number"
            text += f" for each of workers {workers}" if workers > 1 else ""
            findings.add((*where, "gpus"), text)
        elif 0 < gpus < workers:
            text = f"gpus {gpus:g} is not >= workers {workers}; each worker needs its own GPU"
            findings.add((*where, "gpus"), text)
    smallest = _smallest(sweep, "batch_size")
    if "batch_size" not in findings.spoiled and workers > smallest:
        text = f"workers {workers} is not <= batch_size {smallest:g}; each needs an image"
        findings.add((*where, "workers"), text)


def _axis(sweep: SweepConfig, key: str) -> tuple[Any, ...] | Distribution | None:
    """Along which the field moves; None where it does not."""
    axes = (sweep.axes.get(key), *(group.get(key) for group in sweep.zip))
    return next((axis for axis in axes if axis), None)


def _numbers(sweep: SweepConfig, key: str) -> list[float]:
    axis = _axis(sweep, key)
    if isinstance(axis, Distribution):
        return [axis.low, axis.high]
    if axis:
        return [float(value) for value in axis]
    pulled = [float(lever[key]) for lever in sweep.levers if key in lever]
    return [float(sweep.trial.get(key, TrialConfig.model_fields[key].default)), *pulled]


def _largest(sweep: SweepConfig, key: str) -> float:
    return max(_numbers(sweep, key))


def _smallest(sweep: SweepConfig, key: str) -> float:
    return min(_numbers(sweep, key))


def _too_many(sweep: SweepConfig, findings: Findings) -> bool:
    """More trials than anyone means, counted before `exclude` (that would take as long)."""
    total = num_product(sweep)
    if total <= MAX_TRIALS or sweep.budget.trials is not None:
        return False
    sizes = [f"{key} {len(axis)}" for key, axis in sweep.axes.items() if isinstance(axis, tuple)]
    sizes += ["+".join(group) + f" {len(next(iter(group.values())))}" for group in sweep.zip]
    sizes += [f"levers {len(sweep.levers)} + 1"] if sweep.levers else []
    sizes.append(f"seeds {len(sweep.seeds)}")
    if total > num_points(sweep) * len(sweep.seeds):
        sizes.append("folds")
    text = f"{' x '.join(sizes)} = {total:,} trials, more than {MAX_TRIALS:,}"
    findings.add(("axes",), f"{text}; shorten an axis, use search: random, or set budget.trials")
    return True


def _grid_configs(sweep: SweepConfig, findings: Findings) -> None:
    """Fields that disagree somewhere in the grid, each kind of disagreement told once."""
    if findings.spoiled & CROSS_CHECKED:
        return
    is_excluded = exclusion(sweep)
    seen: set[str] = set()
    for point in itertools.islice(assignments(decisive(sweep)), MAX_TRIALS):
        part = cross_checked(point)
        memo = repr(part)
        if memo in seen or all(itertools.starmap(is_excluded, replicas(sweep, point))):
            continue
        seen.add(memo)
        error = disagreement(sweep, part)
        if error is not None:
            _tell(error, part, sweep, findings)
    if sweep.exclude and not findings.problems and count_trials(sweep) == 0:
        findings.add(("exclude",), "every trial is left out; nothing would run")


def _drawn_configs(sweep: SweepConfig, findings: Findings) -> None:
    """The first draws, so that a search that can never fit together does not start."""
    num_draws = sweep.search.num_trials or sweep.search.population
    if findings.problems or num_draws is None:
        return
    try:
        for i in range(min(num_draws, _MAX_CHECKED_DRAWS)):
            sample(sweep, i)
    except CannotFinish as error:
        findings.add(("axes",), str(error))


def _tell(
    error: ValidationError, part: dict[str, Any], sweep: SweepConfig, findings: Findings
) -> None:
    for detail in error.errors(include_url=False):
        reason = str(detail.get("ctx", {}).get("error", detail["msg"]))
        field = str(detail["loc"][0]) if detail["loc"] else reason.partition(" ")[0]
        names = [key for key in part if key.partition(".")[0] == field] or list(part)
        places = dict(_lever_places(sweep)) | dict(_axis_places(sweep))
        where: Path = places[names[0]] if names else ("trial", field)
        given = ", ".join(f"{key} {shown(value)}" for key, value in part.items())
        findings.add(where, f"{reason} (at {given})" if given else reason)
