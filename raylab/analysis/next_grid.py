"""From a grid and what was found in its results to the grid to run next.

Axes that explain nothing are fixed, those that matter are narrowed around their best level or
widened beyond it where that is the last one; levers that help become the base; what the sweep did
not ask and the evidence asks for is added.
"""

import copy
from collections.abc import Mapping, Sequence
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
from raylab.config.checks import contradictions
from raylab.config.expand import count_trials
from raylab.config.fields import is_number, overlay, root
from raylab.config.findings import Findings
from raylab.config.sections import read_sections
from raylab.config.trial import TrialConfig

NUM_SEEDS = 3


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
) -> NextGrid:
    """The grid to run next; it is accepted as it stands. grid: as the sweep has written it; gains:
    of its levers, the largest first.

    Refused if the grid it starts from is none.
    """
    draft = _Draft(grid)
    for verdict in verdicts:
        draft.settle(verdict)
    draft.pull(gains)
    draft.grant(wish)
    draft.ask_something()
    draft.grid["exclude"] = [
        partial for partial in draft.grid.get("exclude", []) if set(partial) <= set(draft.asked())
    ]
    findings = Findings("next.yaml")
    sweep = read_sections(copy.deepcopy(draft.grid), Path(), findings)
    contradictions(sweep, findings)
    findings.refuse_if_any()
    num = count_trials(sweep)
    head = f"What to try after {grid.get('name', 'this sweep')}?  ({num} trials)"
    return NextGrid(draft.grid, (head, *draft.reasons), num)


class _Draft:
    """A copy of the grid while it is changed."""

    def __init__(self, grid: Mapping[str, Any]) -> None:
        self.grid = copy.deepcopy(dict(grid))
        self.grid["name"] = f"{str(grid.get('name', 'sweep'))[:94]}-next"
        self.axes: dict[str, Any] = self.grid.setdefault("axes", {})
        self.trial: dict[str, Any] = self.grid.setdefault("trial", {})
        self.reasons: list[str] = []

    def asked(self) -> list[str]:
        """The fields that move."""
        zipped = [key for group in self.grid.get("zip", []) for key in group]
        return [*self.axes, *zipped, *(key for lever in self.levers for key in lever)]

    @property
    def levers(self) -> list[dict[str, Any]]:
        """What is pulled alone."""
        return list(self.grid.get("levers", []))

    def pull(self, gains: Sequence[Gain]) -> None:
        """Levers that help become the base, the best of each field; those that could not be told
        are pulled again on top of it; the others are settled.
        """
        if not self.levers:
            return
        named = {lever_name(self.grid, lever): lever for lever in self.levers}
        settled: set[str] = set()
        taken: set[str] = set()
        for gain in gains:
            lever = named.get(gain.lever, {})
            if gain.estimate.is_clear or gain.estimate.is_nothing:
                settled.add(gain.lever)
            if gain.estimate.low > 0 and lever and self._is_free(lever, taken):
                taken |= {root(key) for key in lever}
                self.grid["trial"] = self.trial = overlay(self.trial, lever)
                self.reasons.append(f"{gain.lever}: helps, so that it joins the base")
        left = [lever for name, lever in named.items() if name not in settled]
        self.grid["levers"] = [lever for lever in left if self._is_free(lever, taken)]

    def _is_free(self, lever: Mapping[str, Any], taken: set[str]) -> bool:
        """Whether the lever touches no field that another has moved, and fits the base."""
        return not taken & {root(key) for key in lever} and bool(base_values(self.grid, lever))

    def settle(self, verdict: Verdict) -> None:
        """Fixes, narrows or widens one axis; splits decide what is measured and stay."""
        if len(verdict.axis.fields) > 1 or verdict.axis.name.startswith("split"):
            return
        key = verdict.axis.name
        values = self.axes.get(key)
        if isinstance(values, dict):
            self._narrow_range(key, values, verdict)
        if not isinstance(values, list):
            return
        by_level = {self._level(key, value): value for value in values}
        if verdict.best_level not in by_level:
            return
        best = by_level[verdict.best_level]
        if verdict.kind in ("dead", "nothing"):
            self._fix(key, values[0] if verdict.kind == "dead" else best)
            why = "a dead wire" if verdict.kind == "dead" else "makes no difference"
            self.reasons.append(f"{key}: {why}; fixed at {shown(self._value(key))}")
        if verdict.kind != "matters":
            return
        worse = verdict.worse_levels()
        kept = [value for level, value in by_level.items() if level not in worse]
        if is_number(key):
            self.axes[key] = zoomed(key, [float(v) for v in values], [float(v) for v in kept])
            around = "it" if len(kept) == 1 else "all that is not clearly worse"
            best_at = f"best at {verdict.best_level}"
            self.reasons.append(f"{key}: matters, {best_at}; looking around {around}")
        else:
            left_out = ", ".join(sorted(worse & set(by_level)))
            self.reasons.append(f"{key}: without what is clearly worse ({left_out or 'nothing'})")
            if len(kept) == 1:
                self._fix(key, kept[0])
            else:
                self.axes[key] = kept

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
        seeds = list(self.grid.get("seeds", [0]))
        if wish.more_seeds and is_population(self.grid):
            self.grid["seeds"] = [seeds[0] + 1]
            self.reasons.append("seeds: another population, to tell luck from merit")
        elif wish.more_seeds and len(seeds) < NUM_SEEDS:
            free = [seed for seed in range(NUM_SEEDS * 2) if seed not in seeds]
            self.grid["seeds"] = [*seeds, *free[: NUM_SEEDS - len(seeds)]]
            self.reasons.append("seeds: three, to tell luck from merit")
        if wish.more_epochs and "epochs" not in self.asked():
            self.trial["epochs"] = int(self._value("epochs")) + wish.more_epochs
            self.reasons.append(f"epochs: the curve still climbs; {self.trial['epochs']}")
        if wish.more_augmentation:
            levels = [self.trial.get("augment", "none"), "light", "strong", "trivial"]
            self._ask("augment", levels, "augment: it overfits; stronger")
        if wish.more_learning:
            lr = float(self._value("lr"))
            self._ask("lr", [rounded(lr / 3), lr, rounded(lr * 3)], "lr: it underfits; around")
        if wish.soft_labels:
            self._ask("label_smoothing", [0.0, 0.1], "label_smoothing: labels are noisy")

    def ask_something(self) -> None:
        """A grid whose every axis was fixed asks for the learning rate and the augmentation."""
        if self.asked():
            return
        lr = float(self._value("lr"))
        self._ask("lr", [rounded(lr / 3), lr, rounded(lr * 3)], "lr: every old axis is settled")
        levels = [self.trial.get("augment", "none"), "light", "strong", "trivial"]
        self._ask("augment", levels, "augment: every old axis is settled")
        self.grid["search"] = "grid"

    def _ask(self, key: str, values: list[Any], reason: str) -> None:
        """A new axis, unless the field moves already; each meaning once."""
        if any(asked.partition(".")[0] == key for asked in self.asked()):
            return
        self.axes[key] = list({self._level(key, value): value for value in values}.values())
        self.trial.pop(key, None)
        self.reasons.append(reason)

    def _fix(self, key: str, value: Any) -> None:
        del self.axes[key]
        self.grid["trial"] = self.trial = overlay(self.trial, {key: value})

    def _level(self, key: str, value: Any) -> str:
        """The value as a leaderboard shows it."""
        try:
            flat = TrialConfig.model_validate(overlay(self.trial, {key: value})).flat()
        except ValidationError:  # it fits only together with another axis
            return shown(value)
        return shown(flat.get(key, value))

    def _value(self, key: str) -> Any:
        return self.trial.get(key, TrialConfig.model_fields[key].default)
