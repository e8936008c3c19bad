"""From a grid and what was found in its results to the grid to run next.

Axes that explain nothing are fixed, those that matter are narrowed around their best level or
widened beyond it where that is the last one; levers that help become the base; what the sweep did
not ask and the evidence asks for is added. What was settled is not asked again, and a step that
would make a grid that is not accepted is not taken.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from raylab.analysis.axes import shown
from raylab.analysis.generations import is_population
from raylab.analysis.levers import Gain, base_values, lever_name
from raylab.analysis.verdicts import Verdict
from raylab.analysis.zoom import rounded, zoomed
from raylab.config.checks import SERVES, contradictions
from raylab.config.expand import count_trials, expand, swept, values_of
from raylab.config.fields import coerce, is_number, overlay, root, value_at
from raylab.config.files import parent_of
from raylab.config.findings import Findings
from raylab.config.sections import read_sections
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig

NUM_SEEDS = 3
AUGMENTS = ("light", "strong", "trivial")
LISTED = {"grid", "random"}
"""Searches whose trials are known beforehand."""
MAX_COMPARED = 100_000
"""Sweeps of more trials are compared as they are written, not trial by trial."""
_DEFAULTS = TrialConfig().flat()


@dataclass(frozen=True)
class Wish:
    """What the evidence asks for beside the axes."""

    more_seeds: bool = False
    more_epochs: int = 0
    more_augmentation: bool = False
    more_learning: bool = False
    """It has not learned its training images: other learning rates."""
    soft_labels: bool = False
    """Labels are noisy: try smoothing them."""


@dataclass(frozen=True)
class NextGrid:
    """A grid file's content, and why."""

    grid: dict[str, Any]
    reasons: tuple[str, ...]
    num_trials: int

    def text(self) -> str:
        """The file, its reasons as comments on top."""
        head = "".join(f"# {reason}\n" for reason in self.reasons)
        return head + yaml.safe_dump(self.grid, sort_keys=False, allow_unicode=True)


def next_grid(
    grid: Mapping[str, Any], verdicts: Sequence[Verdict], wish: Wish, gains: Sequence[Gain] = ()
) -> NextGrid | None:
    """The grid to run next; it is accepted as it stands. None where it would ask no trial that the
    old one did not. grid: as the sweep has written it; gains: of its levers, the largest first.

    Refused if the grid it starts from is none.
    """
    given, findings = _read(grid)
    findings.refuse_if_any()
    draft = _Draft(grid)
    for verdict in verdicts:
        draft.settle(verdict)
    levers = {lever_name(grid, lever): lever for lever in grid.get("levers", [])}
    for gain in gains:
        draft.pull(gain, levers.get(gain.lever, {}))
    draft.grant(wish)
    draft.ask_something()
    draft.loosen()
    sweep, _ = _read(draft.grid)
    if not _asks_more(sweep, given, draft.dead):
        return None
    if any(map(parent_of, values_of(sweep, "pretrained"))):
        text = "pretrained: these results alone keep those weights; run it with --results of them"
        draft.reasons.append(text)
    num = count_trials(sweep)
    num = min(num, sweep.budget.trials or num)
    head = f"What to try after {grid.get('name', 'this sweep')}?  ({num} trials)"
    return NextGrid(draft.grid, (head, *draft.reasons), num)


def _read(grid: Mapping[str, Any]) -> tuple[SweepConfig, Findings]:
    """The sweep, and why it would not be accepted."""
    findings = Findings("next.yaml")
    sweep = read_sections(copy.deepcopy(dict(grid)), Path(), findings)
    contradictions(sweep, findings)
    return sweep, findings


def _asks_more(new: SweepConfig, old: SweepConfig, dead: Mapping[str, Any]) -> bool:
    """Whether a trial of the new sweep is none of the old one's. dead: fields of which only this
    value counts.
    """
    if swept(new) and set(new.seeds) - set(old.seeds):
        return True
    if not {new.search.kind, old.search.kind} <= LISTED or count_trials(old) > MAX_COMPARED:
        return new.model_copy(update={"name": old.name}) != old
    one_seed = {"seeds": new.seeds[:1]}
    ran = {_essence(config, dead) for config in expand(old.model_copy(update=one_seed))}
    asked = expand(new.model_copy(update=one_seed))
    return any(_essence(config, dead) not in ran for config in asked)


def _essence(config: TrialConfig, dead: Mapping[str, Any]) -> TrialConfig:
    """The config without what it does not read."""
    idle = [k for k, need in SERVES.items() if not need.is_met(getattr(config, need.field))]
    return config.model_copy(update={**dict.fromkeys(idle), **dead})


class _Draft:
    """A copy of the grid while it is changed, step by step."""

    def __init__(self, grid: Mapping[str, Any]) -> None:
        self.grid = copy.deepcopy(dict(grid))
        self.grid["name"] = f"{str(grid.get('name', 'sweep'))[:94]}-next"
        self.reasons: list[str] = []
        self.judged: dict[str, list[Any]] = {}
        """By field, the values between which the diagnosis has decided."""
        self.dead: dict[str, Any] = {}
        """Dead wires, and what each is fixed at."""
        self.is_open = False
        """Whether an axis keeps levels of which none is new and none shown to be the best."""

    @property
    def axes(self) -> dict[str, Any]:
        """What is crossed."""
        axes: dict[str, Any] = self.grid.setdefault("axes", {})
        return axes

    @property
    def trial(self) -> dict[str, Any]:
        """The base."""
        trial: dict[str, Any] = self.grid.setdefault("trial", {})
        return trial

    @property
    def levers(self) -> list[dict[str, Any]]:
        """What is pulled alone."""
        return list(self.grid.get("levers", []))

    def asked(self) -> list[str]:
        """The fields that move."""
        zipped = [key for group in self.grid.get("zip", []) for key in group]
        return [*self.axes, *zipped, *(key for lever in self.levers for key in lever)]

    def take(self, step: Callable[..., None], *args: Any) -> bool:
        """Takes the step if the grid is accepted after it; else all stays as it was."""
        before = copy.deepcopy((self.grid, self.reasons))
        step(*args)
        self._tidy()
        is_accepted = not _read(self.grid)[1].problems
        if not is_accepted:
            self.grid, self.reasons = before
        return is_accepted

    def _tidy(self) -> None:
        """Takes out what a step has left without effect."""
        sweep, _ = _read(self.grid)
        for key, need in SERVES.items():
            if not any(map(need.is_met, values_of(sweep, need.field))):
                self.trial.pop(key, None)
                self.axes.pop(key, None)
        if not self.asked():
            self.grid["search"] = "grid"

    def pull(self, gain: Gain, lever: dict[str, Any]) -> None:
        """A lever that helps joins the base, the best of each field; one that could not be told is
        pulled again on top of it; any other is settled.
        """
        estimate = gain.estimate
        if lever not in self.levers or not (estimate.is_clear or estimate.is_nothing):
            return
        if len(lever) == 1:
            ((key, value),) = lever.items()
            self.judged.setdefault(key, [self._value(key)] if "." not in key else []).append(value)
        if not (estimate.low > 0 and self.take(self._join, lever, gain.lever)):
            self.take(self._drop, lever)

    def _join(self, lever: dict[str, Any], name: str) -> None:
        taken = set(map(root, lever))
        self.grid["trial"] = overlay(self.trial, lever)
        self.grid["levers"] = [
            other
            for other in self.levers
            if not taken & set(map(root, other)) and base_values(self.grid, other)
        ]
        self.reasons.append(f"{name}: helps, so that it joins the base")

    def _drop(self, lever: dict[str, Any]) -> None:
        self.grid["levers"] = [other for other in self.levers if other != lever]

    def settle(self, verdict: Verdict) -> None:
        """Fixes, narrows or widens one axis; splits decide what is measured and stay."""
        if len(verdict.axis.fields) > 1 or verdict.axis.name.startswith("split"):
            return
        key = verdict.axis.name
        values = self.axes.get(key)
        if isinstance(values, dict):
            self.take(self._narrow_range, key, values, verdict)
        if not isinstance(values, list):
            return
        by_level = {self._level(key, value): value for value in values}
        if verdict.best_level not in by_level or verdict.kind in ("unclear", "unpaired"):
            return
        self.judged[key] = values
        if verdict.kind == "dead":
            if self.take(self._fix, key, values[0], "changed nothing"):
                self.dead[key] = values[0]
        elif verdict.kind == "nothing":
            self.take(self._fix, key, by_level[verdict.best_level], "makes no difference")
        else:
            self.take(self._narrow, key, by_level, verdict)

    def _narrow(self, key: str, by_level: Mapping[str, Any], verdict: Verdict) -> None:
        """Leaves out what is clearly worse, and looks around the rest of numbers."""
        worse = verdict.worse_levels() & set(by_level)
        kept = [value for level, value in by_level.items() if level not in worse]
        self.axes[key] = kept
        around = self._around(key, list(by_level.values()), kept) if is_number(key) else kept
        if len(around) > len(kept):
            self.axes[key] = around
            what = "it" if len(kept) == 1 else "all that is not clearly worse"
            best_at = f"best at {verdict.best_level}"
            self.reasons.append(f"{key}: matters, {best_at}; looking around {what}")
            return
        if worse:
            left_out = ", ".join(sorted(worse))
            self.reasons.append(f"{key}: without what is clearly worse ({left_out})")
        if len(kept) == 1:
            self._fix(key, kept[0])
        self.is_open |= any(
            not effect.estimate.is_nothing
            for effect in verdict.effects
            if not worse & {effect.low_level, effect.high_level}
        )

    def _around(self, key: str, values: Sequence[Any], kept: Sequence[Any]) -> list[Any]:
        """The kept numbers and those around them that fit the rest of the grid."""
        found = zoomed(key, [float(v) for v in values], [float(v) for v in kept])
        return [value for value in found if value in kept or self._fits(key, value)]

    def _fits(self, key: str, value: Any) -> bool:
        """Whether the grid is accepted with the value on that axis."""
        axes = {**self.axes, key: [*self.axes[key], value]}
        return not _read({**self.grid, "axes": axes})[1].problems

    def _narrow_range(self, key: str, given: dict[str, Any], verdict: Verdict) -> None:
        """A range that was drawn from becomes the part in which the best quarter lies."""
        kind, ends = next(iter(given.items()))
        if verdict.good_range is None or kind not in ("uniform", "loguniform"):
            return
        low, high = verdict.good_range
        if low > ends[0] or high < ends[1]:
            self.axes[key] = {kind: [low, high]}
            self.reasons.append(f"{key}: where the best quarter of the trials lies")

    def grant(self, wish: Wish) -> None:
        """Adds what the evidence asks for and the grid does not ask yet."""
        if wish.more_seeds or self.is_open:
            self.take(self._change_seeds)
        if wish.more_epochs:
            self.take(self._add_epochs, wish.more_epochs)
        if wish.more_augmentation:
            self.take(self._ask, "augment", AUGMENTS, "augment: it overfits; stronger")
        if wish.more_learning:
            self.take(self._ask, "lr", self._other_lr(), "lr: it underfits; around")
        if wish.soft_labels:
            smooth = "label_smoothing"
            self.take(self._ask, smooth, (0.0, 0.1), f"{smooth}: labels are noisy")

    def _change_seeds(self) -> None:
        """Three, or where there are three already as many that never ran."""
        seeds = list(self.grid.get("seeds", [0]))
        if is_population(self.grid):
            self.grid["seeds"] = [seeds[0] + 1]
            self.reasons.append("seeds: another population, to tell luck from merit")
        elif len(seeds) < NUM_SEEDS:
            free = [seed for seed in range(NUM_SEEDS * 2) if seed not in seeds]
            self.grid["seeds"] = [*seeds, *free[: NUM_SEEDS - len(seeds)]]
            self.reasons.append("seeds: three, to tell luck from merit")
        else:
            first = max(seeds) + 1
            self.grid["seeds"] = list(range(first, first + len(seeds)))
            self.reasons.append(f"seeds: {len(seeds)} others, to tell luck from merit")

    def _add_epochs(self, more: int) -> None:
        num = int(self._value("epochs")) + more
        if "epochs" not in self.asked() and not self._is_judged("epochs", num):
            self.trial["epochs"] = num
            self.reasons.append(f"epochs: the curve still climbs; {num}")

    def ask_something(self) -> None:
        """A grid whose every axis was fixed asks for the learning rate and the augmentation."""
        if self.asked():
            return
        for key, values in (("lr", self._other_lr()), ("augment", AUGMENTS)):
            if key not in self.judged:
                self.take(self._ask, key, values, f"{key}: every old axis is settled")

    def loosen(self) -> None:
        """Takes out the exclusions that leave nothing out any more."""
        self.grid["exclude"] = list(filter(self._is_met, self.grid.get("exclude", [])))

    def _is_met(self, partial: Mapping[str, Any]) -> bool:
        """Whether no field of the exclusion is fixed at another value."""
        moving = {*map(root, self.asked()), "seed"}
        fixed = {key: value for key, value in partial.items() if root(key) not in moving}
        try:
            config = TrialConfig.model_validate(self.trial)
        except ValidationError:  # it fits only together with an axis
            return True
        return all(value_at(config, key) == coerce(key, value) for key, value in fixed.items())

    def _other_lr(self) -> tuple[float, ...]:
        lr = float(self._value("lr"))
        return rounded(lr / 3), rounded(lr * 3)

    def _ask(self, key: str, values: Sequence[Any], reason: str) -> None:
        """A new axis of the base's value and the others, each meaning once; none where the field
        moves already, or nothing is left that was not judged.
        """
        if key in map(root, self.asked()):
            return
        fresh = [value for value in values if not self._is_judged(key, value)]
        levels = {self._level(key, value): value for value in (self._value(key), *fresh)}
        if len(levels) > 1:
            asked = list(levels.values())
            self.axes[key] = sorted(asked) if is_number(key) else asked
            self.trial.pop(key, None)
            self.reasons.append(reason)

    def _is_judged(self, key: str, value: Any) -> bool:
        """Whether the diagnosis has decided on the value: on a number between those that ran too,
        on a dead wire all of them.
        """
        old = self.judged.get(key, [])
        if key in self.dead or not old:
            return key in self.dead
        if is_number(key):
            return bool(min(old) <= value <= max(old))
        return self._level(key, value) in {self._level(key, other) for other in old}

    def _fix(self, key: str, value: Any, why: str = "") -> None:
        del self.axes[key]
        self.grid["trial"] = overlay(self.trial, {key: value})
        if why:
            self.reasons.append(f"{key}: {why}; fixed at {shown(self._value(key))}")

    def _level(self, key: str, value: Any) -> str:
        """The value as a leaderboard shows it."""
        try:
            flat = TrialConfig.model_validate(overlay(self.trial, {key: value})).flat()
        except ValidationError:  # it fits only together with another axis
            return shown(value)
        return shown(flat.get(key, value))

    def _value(self, key: str) -> Any:
        return self.trial.get(key, _DEFAULTS[key])
