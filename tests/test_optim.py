"""Optimiser and schedule: the learning rate of every step, and what is decayed."""

import numpy as np
import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.training.ema import Ema
from raylab.training.optim import Schedule, build_optimizer, lr_factor

torch.set_num_threads(1)

STEPS = 4


def rates(losses=None, **fields):
    config = TrialConfig(**fields)
    optimizer = build_optimizer(torch.nn.Linear(2, 2), config)
    schedule = Schedule(config, optimizer, STEPS)
    seen = []
    for epoch in range(1, config.epochs + 1):
        for step in range(STEPS):
            schedule.set_lr(epoch, step)
            seen.append(optimizer.param_groups[0]["lr"])
        schedule.end_epoch(losses[epoch - 1] if losses else 1 / epoch)
    return np.array(seen).reshape(config.epochs, STEPS)


def test_constant_stays():
    assert np.all(rates(lr_schedule="constant", epochs=3, lr=0.1) == 0.1)


def test_cosine_falls_from_peak_to_zero():
    lr = rates(lr_schedule="cosine", epochs=10, lr=0.1).ravel()
    assert lr[0] == 0.1
    assert np.all(np.diff(lr) < 0)
    assert lr[20] == pytest.approx(0.05)
    assert lr_factor(TrialConfig(epochs=10), 10) == pytest.approx(0)


def test_step_falls_tenfold_at_half_and_three_quarters():
    lr = rates(lr_schedule="step", epochs=8, lr=1)[:, 0]
    assert lr == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_plateau_halves_after_three_epochs_without_a_better_loss():
    losses = [1, 0.5, 0.6, 0.5, 0.7, 0.4, 0.3, 0.2]
    lr = rates(losses, lr_schedule="plateau", epochs=8, lr=1)[:, 0]
    assert lr.tolist() == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5]


def test_onecycle_is_torchs() -> None:
    config = TrialConfig(lr_schedule="onecycle", epochs=50, lr=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=50 * 100, cycle_momentum=False
    )
    wanted = []
    for _ in range(50 * 100):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step() if len(wanted) < 50 * 100 else None
    found = [0.1 * lr_factor(config, step / 100) for step in range(50 * 100)]
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found[0] == pytest.approx(0.1 / 25)
    assert max(found) == found[1500] == pytest.approx(0.1)
    assert 0.1 * lr_factor(config, 50) == pytest.approx(0.1 / 250_000)


def test_onecycle_rises_as_long_as_warmup_epochs_say() -> None:
    lr = rates(lr_schedule="onecycle", epochs=10, warmup_epochs=2, lr=1).ravel()
    assert lr.argmax() == 2 * STEPS


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "plateau"])
def test_warmup_climbs_linearly_from_a_hundredth(schedule):
    lr = rates(lr_schedule=schedule, epochs=10, warmup_epochs=1.5, lr=1).ravel()
    assert lr[0] == pytest.approx(0.01)
    assert np.diff(lr[:7]) == pytest.approx(np.full(6, 0.99 / 6))
    assert lr[6] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("nadam", torch.optim.NAdam),
        ("radam", torch.optim.RAdam),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_optimizer_has_momentum_and_decays_matrices_only(name, kind):
    config = TrialConfig(optimizer=name, momentum=0.7, weight_decay=0.3)
    optimizer = build_optimizer(torch.nn.Linear(3, 2), config)
    assert type(optimizer) is kind
    matrices, vectors = optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0)
    assert matrices.get("momentum", matrices.get("betas", (None,))) in (0.7, (0.7, 0.999))
    assert matrices.get("nesterov", True) is True


def test_frozen_parameters_are_not_given_to_the_optimizer():
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    groups = build_optimizer(model, TrialConfig()).param_groups
    assert [len(group["params"]) for group in groups] == [1]


def test_sgd_steps_as_torch_does_from_the_first_step_on():
    found, wanted = (torch.nn.Linear(3, 2) for _ in range(2))
    wanted.load_state_dict(found.state_dict())
    ours = build_optimizer(found, TrialConfig(optimizer="sgd", lr=0.1, weight_decay=0))
    torchs = torch.optim.SGD(wanted.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for seed in range(3):
        images = torch.rand((4, 3), generator=torch.Generator().manual_seed(seed))
        for model, optimizer in ((found, ours), (wanted, torchs)):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
        torch.testing.assert_close(found.state_dict(), wanted.state_dict())


def test_a_first_step_that_overflows_leaves_sgd_at_rest():
    model = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(model, TrialConfig(optimizer="sgd"))
    scaler = torch.amp.GradScaler("cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.use_deterministic_algorithms(True)  # memory that nobody filled is nan, not chance
    try:
        scaler.scale(model(torch.full((1, 3), 1e38)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        torch.testing.assert_close(model.state_dict(), before)
        scaler.scale(model(torch.zeros(1, 3)).sum()).backward()
        scaler.step(optimizer)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_what_nadam_counts_on_the_cpu_stays_there_when_a_state_is_loaded():
    config = TrialConfig(optimizer="nadam")
    model = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(model, config)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    elsewhere = build_optimizer(torch.nn.Linear(3, 2, device="meta"), config)
    elsewhere.load_state_dict(saved)
    for before, after in zip(saved["state"].values(), elsewhere.state.values(), strict=True):
        assert after["exp_avg"].device.type == "meta"
        assert torch.equal(after["mu_product"], before["mu_product"])
        assert torch.equal(after["step"], before["step"])


def test_the_steps_of_an_average_do_not_ask_a_model_for_its_tensors(monkeypatch):
    """Which takes milliseconds where a network has many."""
    model = torch.nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.9)
    monkeypatch.setattr(torch.nn.Module, "state_dict", lambda self: pytest.fail("asked"))
    ema.update()
    assert ema.num_updates == 1


def test_ema_moves_towards_the_model_and_reaches_its_decay():
    model = torch.nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(2)
    model.num_batches_tracked.fill_(7)
    ema.update()
    assert ema.module.weight.item() == pytest.approx(1 + (1 - 2 / 11))
    assert ema.module.num_batches_tracked.item() == 7
    ema.num_updates = 10_000
    before = ema.module.weight.item()
    ema.update()
    assert ema.module.weight.item() == pytest.approx(before + 0.1 * (2 - before))
