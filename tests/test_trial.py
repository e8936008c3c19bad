"""What a trial does with its own errors, and what it leaves in a process that goes on."""

import sys
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from raylab.after.retrain import retrain, task_of
from raylab.errors import CannotFinish
from raylab.sweep import trial
from raylab.sweep.cluster import Slot
from raylab.sweep.raised import CONFIG_ERRORS


def shared(gpus: float = 0.0) -> Any:
    return SimpleNamespace(slot=Slot(1, 1, gpus, 4))


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[Exception]]:
    """Put a function in the place of the training; gives the errors that are then reported."""

    def put(fit: Callable[[], None]) -> list[Exception]:
        reported: list[Exception] = []
        monkeypatch.setattr(trial, "trainer_for", lambda *_: SimpleNamespace(fit=fit))
        monkeypatch.setattr(trial, "report_failure", lambda *given: reported.append(given[-1]))
        return reported

    return put


@pytest.mark.parametrize(("gpus", "is_told"), [(1.0, True), (0.25, False)])
def test_a_lack_of_memory_is_final_only_where_no_neighbour_may_be_its_cause(
    gpus: float, is_told: bool, training: Callable[..., list[Exception]]
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")

    def fit() -> NoReturn:
        raise error

    reported = training(fit)
    if is_told:
        trial.run_trial({}, shared(gpus))
        assert reported == [error]
        return
    with pytest.raises(torch.OutOfMemoryError):  # which Tune answers with another process
        trial.run_trial({}, shared(gpus))
    assert reported == []


def test_a_trial_whose_gpu_torch_cannot_use_does_not_train_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray counts GPUs by the driver, and torch then names the CPU."""
    shard = SimpleNamespace(labels=(), train=(), val=(), pixel_rows=None, soft_labels=None)
    job = {"cpus": 1, "shards": [shard], "config": {}, "classes": (), "use_gpu": True}
    monkeypatch.setattr(trial, "worker_pixels", lambda *_: np.zeros((1, 8, 8, 3), np.uint8))
    monkeypatch.setattr(trial, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(trial.ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CannotFinish, match=r"torch cannot use the GPU .* install a torch"):
        trial.train_worker(job)
    assert not issubclass(CannotFinish, (*CONFIG_ERRORS, MemoryError))  # the node's fault


@pytest.mark.parametrize(("gpus", "calls"), [(0.0, 0), (0.5, 1)])
def test_a_process_that_has_used_a_gpu_serves_no_other_task(gpus: float, calls: int) -> None:
    """0 = any number of calls, as Ray counts them."""
    assert task_of(retrain, Slot(1, 1, gpus, 4))._max_calls == calls


def test_a_pruned_trial_leaves_its_process_without_its_tensors(
    training: Callable[..., list[Exception]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[torch.nn.Module]] = []
    left: list[torch.nn.Module | None] = []

    def fit() -> NoReturn:
        model = torch.nn.Linear(2, 2)
        models.append(weakref.ref(model))
        sys.exit(0)  # as Tune does from within a report

    training(fit)
    monkeypatch.setattr(trial, "give_back_memory", lambda: left.append(models[0]()))
    with pytest.raises(SystemExit):
        trial.run_trial({}, shared())
    assert left == [None]
