"""The time that `plan --probe` foresees, and the time that the sweep then takes."""

from pathlib import Path

import pytest
import torch

from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.source import scan
from raylab.sweep.plan import Plan
from raylab.sweep.probe import probe, probe_here
from raylab.training.speed import measure

TINY = {"model": "cnn", "image_size": 16, "channels": 1, "batch_size": 32, "amp": "none"}
GRIDS = {
    "sizes": """
trial: {model: cnn, epochs: 8, batch_size: 64}
axes: {image_size: [32, 48], augment: [none, light], lr: [1.0e-2, 1.0e-3]}
""",
    "models": """
trial: {image_size: 32, epochs: 4, channels: 1}
axes: {model: [cnn, resnet18], batch_size: [32, 128]}
seeds: [0, 1]
""",
    "asha": """
trial: {model: cnn, image_size: 40, epochs: 16, mixup: 0.2}
axes: {lr: [3.0e-2, 1.0e-2, 3.0e-3, 1.0e-3, 3.0e-4, 1.0e-4], batch_size: [64, 128]}
scheduler: {asha: {grace_epochs: 2, reduction_factor: 3}}
""",
}
MAX_ERROR = 0.25


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
