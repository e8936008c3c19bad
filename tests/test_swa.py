"""Stochastic weight averaging: an equal mean of the last epochs, with its own statistics."""

import numpy as np
import pytest
import torch
from small_data import small_data

from raylab.config.trial import TrialConfig
from raylab.training.loop import Learner, train
from raylab.training.optim import lr_factor
from raylab.training.refit import refit
from raylab.training.swa import refresh_batchnorm
from raylab.training.worker import Collective

torch.set_num_threads(1)

CPU = torch.device("cpu")
BASE = {"model": "cnn", "image_size": 16, "epochs": 4, "batch_size": 16, "lr": 3e-3, "amp": "none"}


def config_of(**fields):
    return TrialConfig(**(BASE | fields))


def learner_of(**fields):
    return Learner(config_of(**fields), small_data(), CPU, Collective())


def copied(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize(
    ("epochs", "frac", "averaged"), [(20, 0.25, 5), (20, 0.01, 1), (3, 0.5, 2), (1, 0.9, 1)]
)
def test_the_fraction_is_of_the_epochs_and_at_least_one(epochs, frac, averaged):
    config = config_of(epochs=epochs, swa_frac=frac)
    assert config.num_swa_epochs == averaged
    assert config_of(epochs=epochs).num_swa_epochs == 0


def test_the_weights_are_the_mean_over_the_ends_of_the_last_epochs():
    learner = learner_of(swa_frac=0.5)
    ends = []
    for epoch in range(1, 5):
        learner.learn(epoch)
        ends.append(copied(learner.model))
    for name, value in learner.swa.module.named_parameters():
        mean = (ends[2][name] + ends[3][name]) / 2
        assert torch.allclose(value, mean, atol=1e-6)
        assert name.endswith("bias") or not torch.equal(value, ends[3][name])


def test_before_the_last_epochs_nothing_differs_and_the_lr_then_stays():
    rows = {}
    for frac in (0.0, 0.25):
        outcome = train(
            config_of(swa_frac=frac), small_data(), CPU, Collective(), lambda row, state: None
        )
        rows[frac] = outcome.epochs
    for plain, averaged in zip(rows[0.0][:3], rows[0.25][:3], strict=True):
        assert (plain.val_loss, plain.train_loss) == (averaged.val_loss, averaged.train_loss)
    assert rows[0.0][3].val_loss != rows[0.25][3].val_loss
    held = config_of(swa_frac=0.25)
    assert rows[0.25][3].lr == pytest.approx(held.lr * lr_factor(config_of(), 3.0))
    assert rows[0.0][3].lr < rows[0.25][3].lr


def test_batchnorm_has_the_statistics_of_the_mean_itself():
    learner = learner_of(swa_frac=0.5, augment="none", batch_size=48)
    for epoch in range(1, 5):
        learner.learn(epoch)
    images = learner.pixels.normalize(learner.pixels.take(torch.arange(48)))
    module = learner.swa.module
    convolution, norm = module.layer1[0], module.layer1[1]
    seen = convolution(images).mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, seen, atol=1e-4)
    assert not torch.allclose(learner.model.layer1[1].running_mean, seen, atol=1e-4)
    assert norm.momentum == learner.model.layer1[1].momentum


def test_frozen_batchnorm_keeps_its_statistics():
    learner = learner_of(swa_frac=0.5, train_layers=["layer4", "fc"])
    for epoch in range(1, 5):
        learner.learn(epoch)
    module, model = learner.swa.module, learner.model
    assert torch.equal(module.layer1[1].running_mean, model.layer1[1].running_mean)
    assert not torch.equal(module.layer4[1].running_mean, model.layer4[1].running_mean)


def test_batchnorm_of_stages_that_are_not_open_yet_keeps_its_statistics():
    learner = learner_of(swa_frac=0.5, unfreeze_epochs=2)
    for epoch in range(1, 5):
        learner.learn(epoch)
    module, model = learner.swa.module, learner.model
    assert torch.equal(module.layer1[1].running_mean, model.layer1[1].running_mean)
    assert not torch.equal(module.layer4[1].running_mean, model.layer4[1].running_mean)


def test_a_network_without_batchnorm_is_not_run():
    def no_batches():
        raise AssertionError("no statistics are needed")
        yield

    model = torch.nn.Linear(3, 2)
    refresh_batchnorm(model, no_batches())
    assert not model.training


def test_the_retrained_winner_is_averaged_as_the_sweep_was():
    config, data = config_of(swa_frac=0.5), small_data()
    learner = Learner(config, data, CPU, Collective())
    for epoch in range(1, 5):
        learner.learn(epoch)
    fit = refit(config, data, data.val_rows, CPU, 4, [1.0] * 4)
    for name, value in learner.swa.module.state_dict().items():
        assert torch.equal(fit.state[name], value)
    early = refit(config, data, data.val_rows, CPU, 2, [1.0] * 2)
    assert np.isfinite(early.probs).all()


def test_two_ways_of_averaging_are_refused():
    with pytest.raises(ValueError, match="averaged in one way"):
        config_of(swa_frac=0.5, ema_decay=0.9)
