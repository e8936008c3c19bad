"""From a config and a chosen number of epochs to the model they give; nothing is validated on.

The same steps as in `loop`, whose epochs choose the best one: here the last epoch's model counts.
N = images, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raylab.config.trial import TrialConfig
from raylab.training.evaluate import predict_log_probs
from raylab.training.loop import Learner
from raylab.training.precision import fast_convolutions, name_of
from raylab.training.worker import Collective, TrainingData


@dataclass(frozen=True)
class Refitted:
    """probs: float32 (unseen rows, K); state: the model's state dict on the CPU."""

    probs: npt.NDArray[np.float32]
    state: dict[str, torch.Tensor]
    train_loss: float
    train_accuracy: float
    precision: str
    """In which the convolutions were computed."""


def refit(
    config: TrialConfig,
    data: TrainingData,
    unseen_rows: npt.NDArray[np.int64],
    device: torch.device,
    num_epochs: int,
    val_losses: Sequence[float],
) -> Refitted:
    """Train on `data.train_rows` for `num_epochs` and predict `unseen_rows`, positions in labels.

    The learning rate is scheduled over `config.epochs` as in the sweep, and `plateau` hears the
    sweep's `val_losses` again. Labels of unseen rows are not read: they may be -1.
    Raises DivergedError when a loss is nan or inf.
    """
    with fast_convolutions(device):
        learner = Learner(config, data, device, Collective())
        for epoch in range(1, num_epochs + 1):
            learned = learner.learn(epoch)
            if epoch <= len(val_losses):  # with `patience`, other seeds may have gone on for longer
                learner.schedule.end_epoch(val_losses[epoch - 1])
        state = learner.weights()
        assert state is not None  # a worker that is alone has rank 0
        log_probs = predict_log_probs(
            learner.validated,
            learner.pixels,
            unseen_rows,
            len(data.classes),
            tta=config.tta,
            amp=learner.amp,
        )
    precision = name_of(learner.amp)
    return Refitted(np.exp(log_probs), state, learned.loss, learned.accuracy, precision)
