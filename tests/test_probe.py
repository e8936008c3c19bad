"""How fast trials run here, from a few real steps of each kind."""

from pathlib import Path

import pytest
import torch

from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.forecast.probe import probe, probe_here
from raylab.images.source import scan
from raylab.sweep.plan import Plan
from raylab.training.speed import measure

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
