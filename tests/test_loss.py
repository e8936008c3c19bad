"""Losses and class weights against their papers' formulas and their known limits."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from raylab.config.trial import TrialConfig
from raylab.training.loss import (
    Loss,
    balanced_weights,
    class_weights,
    effective_weights,
    loss_of,
)

torch.set_num_threads(1)

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0], [-2.0, 1.0, 1.0], [30.0, 0.0, -30.0]])
LABELS = torch.tensor([0, 1, 2, 0])
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def loss(weights: torch.Tensor | None = None, **fields: object) -> Loss:
    return loss_of(TrialConfig.model_validate(fields), weights)


def right_probs() -> torch.Tensor:
    return LOGITS.softmax(1)[torch.arange(4), LABELS]


def test_focal_is_the_formula_of_its_paper() -> None:
    p = right_probs()
    wanted = ((1 - p) ** 2 * -p.log()).sum()
    assert torch.allclose(loss(loss="focal")(LOGITS, LABELS), wanted)


def test_gce_is_the_formula_of_its_paper() -> None:
    wanted = ((1 - right_probs() ** 0.7) / 0.7).sum()
    assert torch.allclose(loss(loss="gce")(LOGITS, LABELS), wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "fields",
    [{"loss": "focal", "focal_gamma": 0}, {"loss": "gce", "gce_q": 1e-5}],
    ids=["focal, gamma 0", "gce, q towards 0"],
)
def test_both_become_the_cross_entropy(
    fields: dict[str, object], weights: torch.Tensor | None, smoothing: float
) -> None:
    logits = LOGITS[:3]
    wanted = loss(weights, label_smoothing=smoothing)(logits, LABELS[:3])
    found = loss(weights, label_smoothing=smoothing, **fields)(logits, LABELS[:3])
    assert found.item() == pytest.approx(wanted.item(), rel=1e-3)


def test_gce_with_q_1_is_the_mean_absolute_error() -> None:
    probs, truth = LOGITS.softmax(1), functional.one_hot(LABELS, 3)
    wanted = (probs - truth).abs().sum() / 2
    assert torch.allclose(loss(loss="gce", gce_q=1)(LOGITS, LABELS), wanted)


@pytest.mark.parametrize("fields", [{}, {"loss": "focal"}, {"loss": "gce"}], ids=str)
def test_soft_targets_that_are_sure_mean_the_label(fields: dict[str, object]) -> None:
    of = loss(WEIGHTS, label_smoothing=0.1, **fields)
    soft = functional.one_hot(LABELS, 3).float()
    assert torch.allclose(of(LOGITS, soft), of(LOGITS, LABELS))


@pytest.mark.parametrize(
    "fields", [{"loss": "focal", "focal_gamma": 0.5}, {"loss": "gce"}], ids=str
)
def test_gradients_are_finite_where_the_model_is_sure(fields: dict[str, object]) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    torch.autograd.backward(loss(**fields)(logits, torch.tensor([0, 0])))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_label_that_looks_wrong_pulls_less_under_gce_and_more_under_focal() -> None:
    """Gradient of a sure mistake over that of a toss-up: ordered gce < cross-entropy < focal."""

    def ratio(**fields: object) -> float:
        logits = torch.tensor([[-4.0, 4.0], [0.0, 0.0]], requires_grad=True)
        torch.autograd.backward(loss(**fields)(logits, torch.tensor([0, 0])))
        assert logits.grad is not None
        wrong, unsure = logits.grad.norm(dim=1).tolist()
        return wrong / unsure

    assert ratio(loss="gce") < 0.5 < 1 < ratio() < ratio(loss="focal")


COUNTS = np.array([4000.0, 500.0, 8000.0])


def test_effective_weights_follow_cui() -> None:
    beta = 0.999
    wanted = (1 - beta) / (1 - beta**COUNTS)
    found = effective_weights(COUNTS, beta)
    assert found / found[0] == pytest.approx(wanted / wanted[0])
    assert (found * COUNTS).sum() / COUNTS.sum() == pytest.approx(1)


def test_effective_weights_lie_between_none_and_balanced() -> None:
    assert effective_weights(COUNTS, 0) == pytest.approx(np.ones(3))
    assert effective_weights(COUNTS, 1 - 1e-9) == pytest.approx(balanced_weights(COUNTS), rel=1e-3)
    config = TrialConfig(class_weights="effective")
    rare = class_weights(config, COUNTS)[1]
    assert 1 < rare < balanced_weights(COUNTS)[1]
    assert np.isfinite(effective_weights(np.array([0.0, 5.0]), 0.9)).all()
