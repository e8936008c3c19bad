"""How fast trials run here, from a few real steps of each kind."""

from pathlib import Path

import pytest
import torch

from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.forecast.estimate import GROUP_START_S
from raylab.forecast.overview import waiting
from raylab.forecast.probe import MAX_WORKLOADS, Probed, probe, probe_here, speed_of
from raylab.forecast.workload import workload_of
from raylab.images.source import scan
from raylab.sweep.plan import Plan
from raylab.training.speed import Timings, measure

TINY = {"model": "cnn", "image_size": 16, "channels": 1, "batch_size": 32, "amp": "none"}


def test_speed_is_measured_per_image_and_larger_images_take_longer() -> None:
    torch.set_num_threads(1)
    small = measure(TrialConfig(**TINY), 7, torch.device("cpu"), 0.05)
    large = measure(TrialConfig(**TINY | {"image_size": 64}), 7, torch.device("cpu"), 0.05)
    assert min(large.train_s) > max(small.train_s) > 0
    assert min(large.val_s) > 0
    assert 0 < small.trial_s < 5


def test_what_cannot_be_trained_is_told_with_its_name() -> None:
    config = TrialConfig(**TINY | {"drop_path_rate": 0.1})  # which cnn does not have
    with pytest.raises(CannotFinish, match="cnn at 16 px, batches of 32 cannot be trained"):
        probe_here([config], 7, threads=1, gpu=None)


def test_too_many_kinds_are_refused(tmp_path: Path) -> None:
    sizes = ", ".join(map(str, range(16, 46)))
    (tmp_path / "grid.yaml").write_text(f"data: toy:num=100\naxes: {{batch_size: [{sizes}]}}\n")
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    with pytest.raises(Refused, match="30 kinds of trial"):
        probe(plan, 1, print)


def test_the_start_of_workers_is_added_to_what_one_process_shows() -> None:
    alone, grouped = (speed_of([Timings([1.0], [1.0], 2.0)], workers) for workers in (1, 2))
    assert 2 < alone.trial_s.mid < 3
    assert grouped.trial_s.mid == pytest.approx(alone.trial_s.mid + GROUP_START_S)


def probed(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> list[TrialConfig]:
    """The configs that a probe would train."""
    seen: list[TrialConfig] = []

    def side_by_side(configs: list[TrialConfig], *_: object) -> list[Probed]:
        seen.extend(configs)
        return [Probed(0.0, [Timings([1.0], [1.0], 1.0) for _ in configs])]

    monkeypatch.setattr("raylab.forecast.probe.side_by_side", side_by_side)
    probe(plan, 1, lambda text: None)
    return seen


def test_every_kind_of_trial_is_probed_however_late_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ", ".join(str(i / 1000) for i in range(1, 101))
    seeds = ", ".join(map(str, range(25)))
    text = f"data: toy\naxes: {{model: [cnn, resnet18], lr: [{rates}]}}\nseeds: [{seeds}]\n"
    (tmp_path / "grid.yaml").write_text(text)
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    assert [config.model for config in probed(monkeypatch, plan)] == ["cnn", "resnet18"]


def test_of_what_optuna_may_draw_as_much_is_probed_as_the_estimate_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "data: toy\naxes: {batch_size: {randint: [16, 500]}, lr: {uniform: [0.1, 0.2]}}\n"
    (tmp_path / "grid.yaml").write_text(text + "search: {optuna: {num_trials: 9}}\n")
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    configs = probed(monkeypatch, plan)
    assert 2 < len(configs) <= MAX_WORKLOADS
    assert {*map(workload_of, configs)} == {*map(workload_of, waiting(plan, 9, {}))}
