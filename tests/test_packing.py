"""`gpus: auto` packs what memory, the GPU's time and the node's CPUs allow, and no more."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raylab.config.grid import read_grid
from raylab.config.sweep import Resources
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.images.source import scan
from raylab.sweep.cluster import Capacity, Slot
from raylab.sweep.packing import as_trained, heaviest, packed_slot, trials_per_gpu, wants_probe
from raylab.sweep.plan import Plan
from raylab.sweep.raised import is_crowded
from raylab.training import gpu_probe
from raylab.training.evaluate import IMAGES_PER_BATCH
from raylab.training.footprint import Footprint
from raylab.training.gpu_probe import learner_of, measure, measure_on_gpu

GB = 10**9


@pytest.mark.parametrize(
    ("peak_gb", "busy", "expected"),
    [
        (2, 0.25, 4),  # the GPU's time is the limit
        (20, 0.1, 3),  # its memory is: 0.85 x 80 / 20
        (2, 0.9, 1),  # one trial fills it
        (70, 0.1, 1),  # 70 GB of 80 fit once, however idle it is
        (0.7, 0.01, 16),  # nearly idle: the cap
    ],
)
def test_as_many_as_fit_until_the_gpu_is_busy(peak_gb: float, busy: float, expected: int) -> None:
    assert trials_per_gpu([Footprint(int(peak_gb * GB), busy, 80 * GB)]) == expected


def test_the_hungriest_trial_decides() -> None:
    small, large = Footprint(GB, 0.1, 80 * GB), Footprint(30 * GB, 0.1, 80 * GB)
    assert trials_per_gpu([small, large]) == 2


@pytest.mark.parametrize(("cpus", "slots"), [(16.0, 8), (6.0, 6), (2.0, 2)])
def test_each_packed_trial_has_its_cpu(cpus: float, slots: int) -> None:
    capacity = Capacity(nodes=((cpus, 2.0),))
    slot = packed_slot(Resources(), capacity, [Footprint(2 * GB, 0.25, 80 * GB)])
    assert slot.num_slots == slots
    assert slot.gpus_per_worker == pytest.approx(2 / slots)


def test_only_an_open_question_is_probed() -> None:
    gpu, cpu = Capacity(nodes=((8.0, 1.0),)), Capacity(nodes=((8.0, 0.0),))
    assert wants_probe(Resources(), gpu)
    assert not wants_probe(Resources(gpus=0.5), gpu)
    assert not wants_probe(Resources(workers=2), gpu)
    assert not wants_probe(Resources(), cpu)


def test_the_probe_takes_the_largest_config_of_each_model() -> None:
    configs = [
        TrialConfig(model=model, image_size=size, batch_size=batch)
        for model in ("resnet18", "cnn")
        for size, batch in ((64, 32), (128, 64), (128, 16))
    ]
    assert [(c.model, c.image_size, c.batch_size) for c in heaviest(configs)] == [
        ("resnet18", 128, 64),
        ("cnn", 128, 64),
    ]


def test_the_probe_takes_as_much_memory_as_any_trial_of_the_model() -> None:
    """Whichever stands first, and though no trial has all of it."""
    configs = [
        TrialConfig(train_layers="head", image_size=128),
        TrialConfig(train_layers=("layer4", "fc"), amp="bf16", sam_rho=0.05),
        TrialConfig(optimizer="sgd", amp="none", ema_decay=0.9),
        TrialConfig(model="cnn", train_layers="head", optimizer="sgd", swa_frac=0.25),
    ]
    for given in (configs, configs[::-1]):
        resnet, cnn = heaviest(given)
        assert (resnet.image_size, resnet.train_layers, resnet.optimizer) == (128, "all", "adamw")
        assert (resnet.amp, resnet.sam_rho, resnet.ema_decay) == ("none", 0.05, 0.9)
        assert cnn == configs[3]


def test_the_largest_images_are_probed_too_if_their_batches_are_small() -> None:
    configs = [
        TrialConfig(image_size=size, batch_size=batch)
        for size, batch in ((64, 512), (224, 8), (224, 16), (48, 64))
    ]
    assert [(c.image_size, c.batch_size) for c in heaviest(configs)] == [(64, 512), (224, 16)]


def test_a_search_that_decides_as_it_goes_is_probed_at_the_most_it_may_draw(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "data: toy\nsearch: {optuna: {num_trials: 3}}\naxes:\n"
        "  train_layers: [head, [layer4, fc]]\n"
        "  optimizer: [sgd, nadam]\n"
        "  ema_decay: {uniform: [0.5, 0.9]}\n"
        "  batch_size: {randint: [16, 65]}\n"
    )
    plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
    (config,) = heaviest(plan.largest())
    assert (config.train_layers, config.optimizer) == (("layer4", "fc"), "nadam")
    assert (config.ema_decay, config.batch_size) == (0.9, 64)


def test_the_probe_validates_and_learns_as_much_at_a_time_as_a_trial_in_the_end() -> None:
    config = TrialConfig(model="cnn", image_size=16, batch_size=4, unfreeze_epochs=3, lr=100)
    learner = learner_of(config, 3, torch.device("cpu"))
    assert len(learner.data.val_rows) == IMAGES_PER_BATCH
    learned = learner.learn(1)
    learner.validate(1, learned, 0.0)
    assert all(p.grad is not None for p in learner.model.parameters())


def test_no_batch_is_probed_that_no_trial_can_fill() -> None:
    """And the config whose batches are larger only on paper is not the heaviest."""
    configs = [
        TrialConfig(image_size=size, batch_size=batch) for size, batch in ((64, 65_536), (96, 512))
    ]
    found = as_trained(configs, num_images=1_000)
    assert [(c.image_size, c.batch_size) for c in heaviest(found)] == [(96, 512)]


def test_a_peak_is_of_the_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the float32 that `amp: auto` tried while the learner was built."""
    gpu = SimpleNamespace(reserved=0, peak=0)
    learned = SimpleNamespace(seconds=1.0)

    def take(num_bytes: int) -> Any:
        gpu.reserved = max(gpu.reserved, num_bytes)
        gpu.peak = max(gpu.peak, gpu.reserved)
        return learned

    def built(*_: object) -> Any:
        take(20 * GB)
        return SimpleNamespace(learn=lambda epoch: take(10 * GB), validate=lambda *_: None)

    whole = SimpleNamespace(total_memory=80 * GB)
    profiled = SimpleNamespace(key_averages=list)
    monkeypatch.setattr(gpu_probe, "learner_of", built)
    monkeypatch.setattr(gpu_probe, "profile", lambda activities: nullcontext(profiled))
    for name, stub in {
        "get_device_properties": lambda device: whole,
        "empty_cache": lambda: setattr(gpu, "reserved", 0),
        "reset_peak_memory_stats": lambda device: setattr(gpu, "peak", gpu.reserved),
        "max_memory_reserved": lambda device: gpu.peak,
        "synchronize": lambda device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    found = measure(TrialConfig(), 3, torch.device("cuda"))
    assert found.peak_bytes == 10 * GB + gpu_probe.CONTEXT_BYTES


def test_a_gpu_that_torch_cannot_use_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CannotFinish, match="torch cannot use the GPU that Ray gave"):
        measure_on_gpu(TrialConfig(), 3, 0)


@pytest.mark.parametrize(
    ("gpus", "error", "is_tried_again"),
    [
        (0.25, torch.OutOfMemoryError("CUDA out of memory"), True),
        (0.25, RuntimeError("FIND was unable to find an engine to execute this"), True),
        (0.25, ValueError("model x is too small"), False),
        (1.0, torch.OutOfMemoryError("CUDA out of memory"), False),
        (0.0, MemoryError(), False),
    ],
)
def test_a_trial_that_neighbours_left_too_little_memory_is_tried_again(
    gpus: float, error: Exception, is_tried_again: bool
) -> None:
    assert is_crowded(error, Slot(1, 1, gpus, 4)) is is_tried_again


def test_no_model_is_left_unprobed(tmp_path: Path) -> None:
    """A heavy model behind many light ones, or one that a search draws later, sets the packing."""
    models = ["cnn", "resnet18", "resnet34", "resnet50", "efficientnet_b6"]
    axes = f"axes: {{model: [{', '.join(models)}], image_size: [48, 64], batch_size: [32, 64]}}"
    for search in ("grid", "{optuna: {num_trials: 3}}"):
        (tmp_path / "grid.yaml").write_text(f"data: toy\n{axes}\nsearch: {search}\n")
        plan = Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100"))
        found = heaviest(plan.largest())
        assert sorted(config.model for config in found) == sorted(models)
        assert {(config.image_size, config.batch_size) for config in found} == {(64, 64)}
