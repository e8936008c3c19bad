"""Sharpness-aware minimisation takes its gradient at the worst point nearby, and no other trace."""

import pytest
import torch
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.training.loss import loss_of
from raylab.training.sam import at_worst_point
from raylab.training.step import Stepper

torch.set_num_threads(1)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((6, 1, 4, 4), generator=generator), torch.arange(6) % 3


def test_inside_the_weights_stand_rho_up_the_gradient_and_then_back() -> None:
    network, (images, labels) = model(), batch()
    torch.autograd.backward(nn.functional.cross_entropy(network(images), labels))
    before = [p.clone() for p in network.parameters()]
    gradients = torch.cat([p.grad.flatten() for p in network.parameters()])
    with at_worst_point(network, 0.05):
        moves = [p.detach() - b for p, b in zip(network.parameters(), before, strict=True)]
    move = torch.cat([m.flatten() for m in moves])
    assert move.norm().item() == pytest.approx(0.05, rel=1e-4)
    assert torch.allclose(move, 0.05 * gradients / gradients.norm(), atol=1e-6)
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


def test_an_error_inside_leaves_the_weights_where_they_stood() -> None:
    network, (images, labels) = model(), batch()
    torch.autograd.backward(nn.functional.cross_entropy(network(images), labels))
    before = [p.clone() for p in network.parameters()]
    with pytest.raises(torch.OutOfMemoryError), at_worst_point(network, 0.5):
        raise torch.OutOfMemoryError
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


def test_memory_that_ends_on_the_way_there_leaves_the_weights_where_they_stood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, (images, labels) = model(), batch()
    torch.autograd.backward(nn.functional.cross_entropy(network(images), labels))
    before = [p.clone() for p in network.parameters()]
    moves = iter([torch.nan_to_num, torch.nan_to_num])

    def move(*given: torch.Tensor, **how: float) -> torch.Tensor:
        for found in moves:
            return found(*given, **how)
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(torch, "nan_to_num", move)
        with pytest.raises(torch.OutOfMemoryError), at_worst_point(network, 0.5):
            pytest.fail("it began")
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


def test_gradients_that_overflowed_move_nothing() -> None:
    network = model()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    before = [p.clone() for p in network.parameters()]
    with at_worst_point(network, 0.05):
        assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


def stepped(rho: float) -> tuple[nn.Sequential, torch.Tensor]:
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    step = Stepper(network, optimizer, scaler, None, loss_of(TrialConfig(), None), True, 1, rho)
    loss, _ = step(*batch(), 1 / 6)
    return network, loss


def test_a_step_is_the_papers_two_passes() -> None:
    found, loss = stepped(0.1)
    wanted, (images, labels) = model(), batch()
    plain = nn.functional.cross_entropy(wanted(images), labels)
    torch.autograd.backward(plain)
    norm = torch.cat([p.grad.flatten() for p in wanted.parameters()]).norm()
    here = [p.detach().clone() for p in wanted.parameters()]
    with torch.no_grad():
        for p in wanted.parameters():
            p.add_(p.grad, alpha=0.1 / norm.item())
    wanted.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(wanted(images), labels))
    for p, start, q in zip(wanted.parameters(), here, found.parameters(), strict=True):
        assert torch.allclose(q, start - 0.1 * p.grad, atol=1e-6)
    assert loss.item() / 6 == pytest.approx(plain.item(), rel=1e-5)


def test_batchnorm_hears_one_pass_only() -> None:
    plain, sharp = stepped(0.0)[0], stepped(0.5)[0]
    assert torch.equal(plain[1].running_mean, sharp[1].running_mean)
    assert torch.equal(plain[1].running_var, sharp[1].running_var)
    assert int(sharp[1].num_batches_tracked) == 1
