"""Refitting: the loop's own steps for a chosen number of epochs, blind to every unseen label."""

from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from ray.exceptions import RayTaskError
from small_data import small_data

from raylab.after import retrain
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.events.progress import Views
from raylab.training import optim, speed
from raylab.training import refit as refitting
from raylab.training.epoch import EpochRow
from raylab.training.loop import train
from raylab.training.refit import refit
from raylab.training.worker import Collective, TrainingData

CPU = torch.device("cpu")
BASE: dict[str, Any] = {
    "model": "cnn",
    "image_size": 16,
    "batch_size": 16,
    "epochs": 4,
    "lr": 0.01,
    "amp": "none",
}


def loop_weights(config: TrialConfig, data: TrainingData) -> tuple[list[Any], list[EpochRow]]:
    """The model's weights after every epoch of the sweep's own loop."""
    weights = []

    def report(row: EpochRow, state: Any) -> None:
        weights.append(state()["model"])

    outcome = train(config, data, CPU, Collective(), report)
    return weights, outcome.epochs


@pytest.mark.parametrize("fields", [{"mixup": 0.2}, {"lr_schedule": "plateau"}])
def test_a_model_after_n_epochs_is_that_of_the_loop_after_n_epochs(fields: dict[str, Any]) -> None:
    config = TrialConfig.model_validate({**BASE, **fields, "augment": "light"})
    data = small_data()
    expected, epochs = loop_weights(config, data)
    fit = refit(config, data, data.val_rows, CPU, 3, [row.val_loss for row in epochs])
    assert all(torch.equal(fit.state[name], value) for name, value in expected[2].items())
    assert fit.probs.shape == (len(data.val_rows), 4)
    assert np.allclose(fit.probs.sum(1), 1, atol=1e-5)


def test_convolutions_are_as_fast_as_in_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN measures its algorithms from the first one on: in what precision is chosen by it."""
    seen: list[bool] = []

    def built(*_: Any) -> NoReturn:
        seen.append(torch.backends.cudnn.benchmark)
        raise InterruptedError

    monkeypatch.setattr(refitting, "Learner", built)
    monkeypatch.setattr(speed, "Learner", built)
    config, data, gpu = TrialConfig.model_validate(BASE), small_data(), torch.device("cuda")
    with pytest.raises(InterruptedError):
        refit(config, data, data.val_rows, gpu, 3, [])
    with pytest.raises(InterruptedError):
        speed.measure(config, 4, gpu)
    assert seen == [True, True]
    assert not torch.backends.cudnn.benchmark


def test_plateau_lowers_the_rate_where_the_sweep_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "PLATEAU_EPOCHS", 1)
    config = TrialConfig.model_validate({**BASE, "lr_schedule": "plateau"})
    data = small_data()
    better, worse = (
        refit(config, data, data.val_rows, CPU, 3, losses) for losses in ([3, 2, 1], [1, 2, 3])
    )
    assert better.train_loss != worse.train_loss


def test_labels_of_unseen_images_may_be_anything() -> None:
    config = TrialConfig.model_validate({**BASE, "class_weights": "balanced"})
    data = small_data()
    hidden = data.labels.copy()
    hidden[data.val_rows] = -1
    no_rows = np.empty(0, dtype=np.int64)
    first, second = (
        refit(config, replace(data, labels=labels, val_rows=no_rows), data.val_rows, CPU, 2, [0, 0])
        for labels in (data.labels, hidden)
    )
    assert (first.probs == second.probs).all()
    assert (first.train_loss, first.train_accuracy) == (second.train_loss, second.train_accuracy)


def test_the_chosen_epochs_may_be_more_than_this_seed_ran_before_its_patience_ended() -> None:
    config = TrialConfig.model_validate({**BASE, "lr_schedule": "plateau", "patience": 1})
    data = small_data()
    fit = refit(config, data, data.val_rows, CPU, 3, [1.0])
    assert np.isfinite(fit.train_loss)


class Noted(Views):
    """Keeps what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """By their ref what Ray's tasks come to, one after the other; those cancelled lose it."""
    outcomes: dict[str, Any] = {}

    def get(ref: str) -> Any:
        if isinstance(outcomes[ref], Exception):
            raise outcomes[ref]
        return outcomes[ref]

    monkeypatch.setattr(retrain.ray, "wait", lambda refs, timeout: (refs[-1:], refs[:-1]))
    monkeypatch.setattr(retrain.ray, "get", get)
    monkeypatch.setattr(retrain.ray, "cancel", lambda ref: outcomes.pop(ref))
    return outcomes


def test_what_tasks_return_comes_in_their_order(tasks: dict[str, Any]) -> None:
    tasks |= {"first": 1, "second": 2}
    view = Noted()
    assert retrain.gathered({"first": "aaaa", "second": "bbbb"}, "retraining", "", view) == [1, 2]
    assert view.notes == ["retraining bbbb: done", "retraining aaaa: done"]


def test_the_first_task_that_fails_is_named_and_ends_the_others(tasks: dict[str, Any]) -> None:
    tasks |= {
        "first": 1,
        "second": RayTaskError("f", "", ValueError("loss became nan")),
        "third": 3,
    }
    named, view = {"first": "aaaa", "second": "bbbb", "third": "cccc"}, Noted()
    text = "the retraining of bbbb failed: loss became nan; nothing was scored"
    with pytest.raises(CannotFinish, match=text):
        retrain.gathered(named, "retraining", "nothing was scored", view)
    assert view.notes == ["retraining cccc: done"]
    assert "first" not in tasks
