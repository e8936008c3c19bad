"""Levers: each pulled alone against the base, and what it gains in pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from raylab.analysis.about_axes import axis_findings, verdicts_of
from raylab.analysis.about_levers import lever_findings, lever_gains
from raylab.analysis.evidence import Evidence
from raylab.analysis.levers import gains
from raylab.analysis.next_grid import Wish, next_grid
from raylab.config.differences import differing_fields
from raylab.config.expand import count_trials, expand, split_choices
from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.errors import Refused

LEVERS: tuple[dict[str, Any], ...] = (
    {"augment": "light"},
    {"augment": "strong"},
    {"loss": "focal", "focal_gamma": 1.0},
    {"augment.flip": 0.5},
)


def sweep_of(**fields: Any) -> SweepConfig:
    return SweepConfig(**{"name": "test", "data": "toy", "levers": LEVERS, **fields})


def test_the_base_comes_first_and_each_lever_alone_after_it() -> None:
    told = [(c.augment.name, c.loss, c.focal_gamma) for c in expand(sweep_of())]
    plain = ("cross_entropy", 2.0)
    names = [("none", *plain), ("light", *plain), ("strong", *plain), ("none", "focal", 1.0)]
    assert told == [*names, ("flip", *plain)]
    assert count_trials(sweep_of()) == 5


def test_levers_are_pulled_at_every_point_of_the_axes_and_with_every_seed() -> None:
    sweep = sweep_of(axes={"lr": (0.1, 0.2)}, zip=({"epochs": (1, 2)},), seeds=(0, 1, 2))
    configs = list(expand(sweep))
    assert len(configs) == len(set(map(str, configs))) == count_trials(sweep) == 5 * 2 * 2 * 3
    moved = {"lr", "epochs", "augment", "loss", "focal_gamma", "seed"}
    assert set(differing_fields(configs)) == moved


@pytest.mark.parametrize(
    ("partial", "left"),
    [({"augment": "light"}, 16), ({"lr": 0.1, "loss": "focal"}, 18), ({"seed": 1}, 10)],
)
def test_exclude_leaves_out_levers_too(partial: dict[str, Any], left: int) -> None:
    sweep = sweep_of(axes={"lr": (0.1, 0.2)}, seeds=(0, 1), exclude=(partial,))
    assert len(list(expand(sweep))) == count_trials(sweep) == left


def test_levers_of_the_split_count_their_folds() -> None:
    levers = ({"split": {"folds": 3}}, {"lr": 0.1})
    sweep = sweep_of(levers=levers, seeds=(0, 1))
    assert len(list(expand(sweep))) == count_trials(sweep) == 2 * (1 + 3 + 1)
    assert len(split_choices(sweep)) == 2


def test_a_written_grid_is_read_as_the_same_sweep(tmp_path: Path) -> None:
    text = "data: toy\nlevers:\n  - {augment: light}\n  - {loss: focal, focal_gamma: 1.0}\n"
    (tmp_path / "grid.yaml").write_text(text)
    sweep = read_grid(tmp_path / "grid.yaml")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(sweep.as_grid()))
    assert read_grid(tmp_path / "again.yaml") == sweep
    fewer = read_grid(tmp_path / "grid.yaml", overrides=["levers.0.augment=strong"])
    assert fewer.levers[0] == {"augment": "strong"}


def test_levers_that_an_axis_tells_apart_are_no_repetition(tmp_path: Path) -> None:
    levers = "levers:\n  - {split.train: 0.7}\n  - {split.val: 0.2}\n"
    (tmp_path / "grid.yaml").write_text(f"data: toy\n{levers}axes: {{split.test: [0.1, 0.15]}}\n")
    assert count_trials(read_grid(tmp_path / "grid.yaml")) == 6
    (tmp_path / "grid.yaml").write_text(f"data: toy\n{levers}")
    with pytest.raises(Refused, match=r"is the same trial as levers\[0\]"):
        read_grid(tmp_path / "grid.yaml")
    assert read_grid(tmp_path / "grid.yaml", is_resolved=True).levers  # an earlier sweep's


def board(effects: dict[str, float], seeds: int = 3, noise: float = 0.01, seed: int = 0) -> Any:
    """A one-at-a-time sweep of drop_rate, mixup, …: (frame, grid), accuracies known."""
    rng = np.random.default_rng(seed)
    fields = dict.fromkeys(effects, 0.0)
    rows = []
    for lever in [None, *effects]:
        for s in range(seeds):
            config = fields | ({lever: 0.5} if lever else {})
            accuracy = 0.6 + effects.get(str(lever), 0.0) + rng.normal(0, noise)
            rows.append({**config, "seed": s, "acc": accuracy, "family_id": str(lever)})
    frame = pd.DataFrame(rows)
    frame["trial_id"] = [f"t{i}" for i in range(len(frame))]
    grid = {"trial": {}, "levers": [{name: 0.5} for name in effects]}
    return frame, grid


EFFECTS = {"drop_rate": 0.03, "label_smoothing": 0.0, "mixup": -0.03, "cutmix": 0.0}


def test_each_gain_is_the_paired_difference_from_the_base() -> None:
    frame, grid = board(EFFECTS, noise=0.002)
    found = gains(frame, grid, "acc", {})
    assert found[0].lever == "drop_rate 0.5"
    assert found[-1].lever == "mixup 0.5"
    best = found[0].estimate
    assert best.value == pytest.approx(0.03, abs=0.006)
    assert best.low < 0.03 < best.high
    assert best.num == 3
    assert found[-1].estimate.high < 0
    assert [list(pair) for pair in found[0].trial_ids] == [["t0", "t3"], ["t1", "t4"], ["t2", "t5"]]


def test_a_lever_of_two_fields_has_both_in_its_name_and_axes_make_more_pairs() -> None:
    rows = []
    for lr in (0.1, 0.2):
        for loss, gamma in (("cross_entropy", 2.0), ("focal", 1.0)):
            gain = 0.02 if loss == "focal" else 0.0
            for s in (0, 1):
                config = {"lr": lr, "loss": loss, "focal_gamma": gamma, "seed": s}
                rows.append({**config, "acc": lr + gain, "family_id": f"{lr}{loss}"})
    frame = pd.DataFrame(rows)
    frame["trial_id"] = [f"t{i}" for i in range(len(frame))]
    grid = {"trial": {}, "axes": {"lr": [0.1, 0.2]}, "levers": [LEVERS[2]]}
    (found,) = gains(frame, grid, "acc", {})
    assert found.lever == "loss focal, focal_gamma 1"
    assert found.estimate.value == pytest.approx(0.02)
    assert found.estimate.num == 4


def test_one_seed_has_gains_and_no_intervals() -> None:
    found = gains(*board(EFFECTS, seeds=1), "acc", {})
    assert len(found) == 4
    assert all(np.isnan(gain.estimate.low) for gain in found)


def test_a_diverged_seed_of_one_lever_leaves_the_others_intervals_as_narrow() -> None:
    frame, grid = board(EFFECTS, noise=0.003)
    before = {gain.lever: gain.estimate for gain in gains(frame, grid, "acc", {})}
    frame.loc[(frame["family_id"] == "cutmix") & (frame["seed"] == 0), "acc"] = 0.14
    after = {gain.lever: gain.estimate for gain in gains(frame, grid, "acc", {})}
    odd = after.pop("cutmix 0.5")
    assert odd.low < 0 < odd.high
    assert odd.value == pytest.approx(-0.46 / 3, abs=0.01)
    for lever, now in after.items():
        assert now.value == before[lever].value
        assert now.high - now.value < 1.5 * (before[lever].high - before[lever].value)
    assert after["drop_rate 0.5"].low > 0 > after["mixup 0.5"].high


def test_a_base_that_never_ran_pairs_with_nothing() -> None:
    frame, grid = board(EFFECTS)
    assert gains(frame[frame["family_id"] != "None"].reset_index(drop=True), grid, "acc", {}) == []


def evidence_of(frame: pd.DataFrame, grid: dict[str, Any]) -> Evidence:
    """What a diagnosis would look at, had the sweep kept no predictions."""
    trials = frame.rename(columns={"acc": "val_accuracy"}).assign(status="complete")
    empty = pd.DataFrame()
    return Evidence(trials, empty, {}, empty, (), grid)


def test_diagnose_tells_every_lever_and_judges_no_axis_twice() -> None:
    evidence = evidence_of(*board(EFFECTS, noise=0.002))
    head, *each = lever_findings(evidence, lever_gains(evidence))
    assert head.sentence.startswith("4 levers, each alone against the base")
    assert head.evidence["num_clear"] == 1
    assert each[0].sentence.startswith("drop_rate 0.5: +")
    assert each[0].sentence.endswith("points (3 pairs), helps.")
    assert each[-1].sentence.endswith("hurts.")
    assert axis_findings(evidence, verdicts_of(evidence)) == []


def test_levers_on_images_that_all_got_right_are_not_yet_told() -> None:
    """Of 20 images even 5 % of difference may stay unseen."""
    frame, grid = board({"mixup": 0.0}, noise=0)
    (gain,) = gains(frame.assign(acc=1.0, num_val=20), grid, "acc", {})
    assert gain.estimate.high > 0.05


def test_zipped_axes_and_levers_of_the_split_are_judged_as_axes() -> None:
    rows = []
    for lr, drop_rate, share in ((0.1, 0.1, 0.2), (0.2, 0.3, 0.2), (0.1, 0.1, 0.4)):
        for mixup in (0.0, 0.5) if share == 0.2 else (0.0,):
            config = {"lr": lr, "drop_rate": drop_rate, "split.val": share, "mixup": mixup}
            rows += [{**config, "seed": s, "acc": 0.6 + lr + s / 1e3} for s in range(3)]
    frame = pd.DataFrame(rows)
    frame["trial_id"] = frame["family_id"] = [f"t{i}" for i in range(len(frame))]
    zipped = [{"lr": [0.1, 0.2], "drop_rate": [0.1, 0.3]}]
    grid = {"trial": {}, "zip": zipped, "levers": [{"mixup": 0.5}, {"split.val": 0.4}]}
    evidence = evidence_of(frame, grid)
    assert [gain.lever for gain in lever_gains(evidence)] == ["mixup 0.5"]
    told = " ".join(f.sentence for f in axis_findings(evidence, verdicts_of(evidence)))
    assert "drop_rate + lr" in told
    assert "split.val" in told
    assert "mixup" not in told


def test_the_next_grid_begins_where_the_levers_led() -> None:
    frame, grid = board(EFFECTS | {"sam_rho": 0.05}, noise=0.002)
    found = next_grid(
        {"name": "x", "data": "toy", **grid}, [], Wish(), gains(frame, grid, "acc", {})
    )
    assert found.grid["trial"] == {"sam_rho": 0.5, "drop_rate": 0.5}
    assert {key for lever in found.grid["levers"] for key in lever} <= {"label_smoothing", "cutmix"}
    assert found.reasons[1] == "sam_rho 0.5: helps, so that it joins the base"


def test_of_two_levers_on_one_field_the_better_joins_the_base() -> None:
    rows = []
    for rate, accuracy in ((0.0, 0.6), (0.1, 0.62), (0.2, 0.64)):
        rows += [
            {"drop_rate": rate, "seed": s, "acc": accuracy + s / 1e4, "family_id": str(rate)}
            for s in range(3)
        ]
    frame = pd.DataFrame(rows)
    frame["trial_id"] = [f"t{i}" for i in range(len(frame))]
    grid = {"trial": {}, "levers": [{"drop_rate": 0.1}, {"drop_rate": 0.2}]}
    found = next_grid(
        {"name": "x", "data": "toy", **grid}, [], Wish(), gains(frame, grid, "acc", {})
    )
    assert found.grid["trial"]["drop_rate"] == 0.2
    assert found.grid["levers"] == []
    assert set(found.grid["axes"]) == {"lr", "augment"}  # a grid has to ask something


@pytest.mark.slow
def test_intervals_hold_the_true_gain_as_often_as_they_say() -> None:
    inside = total = 0
    effects = dict.fromkeys(("drop_rate", "label_smoothing", "mixup", "cutmix"), 0.0)
    for seed in range(300):
        for gain in gains(*board(effects, seed=seed), "acc", {}):
            total += 1
            inside += gain.estimate.low <= 0 <= gain.estimate.high
    assert 0.93 <= inside / total <= 0.985
