"""A step whose batch does not fit is cut into micro-batches and learns the same gradient."""

import numpy as np
import pytest
import torch
from small_data import small_data
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.training.evaluate import predict_log_probs
from raylab.training.loop import train
from raylab.training.loss import loss_of
from raylab.training.pixels import Pixels
from raylab.training.step import Stepper
from raylab.training.worker import Collective

CPU = torch.device("cpu")


NO_ENGINE = RuntimeError("FIND was unable to find an engine to execute this computation")
FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    NO_ENGINE,
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class Small(nn.Module):
    """A network on a device whose memory holds `most` images."""

    def __init__(self, most: int, error: Exception = FULL[0]) -> None:
        super().__init__()
        self.most, self.error, self.fc = most, error, nn.Linear(12, 3)
        nn.init.constant_(self.fc.weight, 0.1)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error
        return self.fc(images.flatten(1))


def stepper(model: nn.Module, *, may_cut: bool = True) -> Stepper:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Stepper(model, optimizer, scaler, None, loss_of(TrialConfig(), None), may_cut)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((10, 3, 2, 2), generator=generator), torch.arange(10) % 3


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_batch_that_does_not_fit_gives_the_same_step_in_parts(error: Exception) -> None:
    images, targets = batch()
    whole, cut = Small(most=10), Small(3, error)
    loss_whole, hits_whole = stepper(whole)(images, targets, 1 / 10)
    step = stepper(cut)
    loss_cut, hits_cut = step(images, targets, 1 / 10)
    assert step.num_micro_batches == 4
    torch.testing.assert_close(loss_cut, loss_whole)
    assert hits_cut == hits_whole
    torch.testing.assert_close(cut.fc.weight, whole.fc.weight)


def test_it_gives_up_at_two_images() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        stepper(Small(most=1))(*batch(), 1 / 10)


def test_an_optimiser_that_memory_fails_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have taken half of its step: AdamW would miss the state that it had no memory for."""
    asked: list[None] = []

    def fail(*_: object) -> None:
        asked.append(None)
        raise torch.OutOfMemoryError("CUDA out of memory")

    step = stepper(Small(most=10))
    monkeypatch.setattr(step.optimizer, "step", fail)
    with pytest.raises(torch.OutOfMemoryError):
        step(*batch(), 1 / 10)
    assert len(asked) == step.num_micro_batches == 1


def test_what_is_no_lack_of_memory_is_not_tried_again() -> None:
    step = stepper(Small(3, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        step(*batch(), 1 / 10)
    assert step.num_micro_batches == 1


@pytest.mark.parametrize("error", FULL, ids=str)
def test_validation_goes_on_with_as_many_images_as_fit(error: Exception) -> None:
    pixels = Pixels(torch.zeros((40, 2, 2, 3), dtype=torch.uint8), TrialConfig(), CPU)
    assert predict_log_probs(Small(3, error), pixels, np.arange(40), 3).shape == (40, 3)
    with pytest.raises(type(error)):
        predict_log_probs(Small(0, error), pixels, np.arange(40), 3)


def test_a_worker_among_others_may_not_cut_alone() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        stepper(Small(most=3), may_cut=False)(*batch(), 1 / 10)


def test_the_epochs_say_how_far_batches_were_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = nn.AdaptiveAvgPool2d.forward
    seen: list[int] = []

    def crowded(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(nn.AdaptiveAvgPool2d, "forward", crowded)
    config = TrialConfig(model="resnet10t", image_size=16, batch_size=16, epochs=2)
    data = small_data()
    outcome = train(config, data, CPU, Collective(), lambda row, state: None)
    assert [row.num_micro_batches for row in outcome.epochs] == [2, 2]
    assert seen
