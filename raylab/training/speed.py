"""From a trial config to how fast its own training loop runs here: a few real steps, timed.

B = batch size. The images are noise: what they show does not change how long a step takes.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raylab.config.trial import TrialConfig
from raylab.training.checkpoint import save_model
from raylab.training.loop import Learner
from raylab.training.precision import fast_convolutions
from raylab.training.worker import Collective, TrainingData

ROUNDS = 5
ROUND_S = 0.4
SMALL_BATCH = 16
SLOW_STEP_S = 4.0
"""Where a whole batch would take longer, SMALL_BATCH images at a time tell as much."""
MAX_IMAGES = 8192
# Noise teaches nothing, so that nothing may diverge by it; and nothing is fetched for it.
STILL = {
    **{"lr": 1e-6, "lr_schedule": "constant", "warmup_epochs": 0.0, "epochs": ROUNDS + 2},
    **{"pretrained": False, "pretrained_digest": ""},
}


@dataclass(frozen=True)
class Timings:
    """Seconds per image of each round, and what a trial costs once beside its epochs."""

    train_s: tuple[float, ...]
    val_s: tuple[float, ...]
    trial_s: float
    """To build the model and to keep its weights."""


def measure(
    config: TrialConfig, num_classes: int, device: torch.device, round_s: float = ROUND_S
) -> Timings:
    """Trains and validates ROUNDS times for about `round_s` each, after a step that warms up.

    Raises ValueError where config and model disagree, torch.OutOfMemoryError as training would.
    """
    config = config.model_copy(update=STILL)
    small = config.model_copy(update={"batch_size": min(config.batch_size, SMALL_BATCH)})
    with fast_convolutions(device):
        warm, _ = _learner(small, num_classes, device, num_steps=2)
        warm.learn(1)
        began_s = time.perf_counter()
        warm.learn(2)
        step_s = (time.perf_counter() - began_s) / 2
        chosen = config if step_s * config.batch_size / SMALL_BATCH < SLOW_STEP_S else small
        per_round = round_s / max(step_s * chosen.batch_size / small.batch_size, 1e-6)
        most = max(2, MAX_IMAGES // chosen.batch_size)
        num_steps = min(most, max(2, round(per_round)))
        learner, build_s = _learner(chosen, num_classes, device, num_steps)
        learned = learner.learn(1)
        learner.validate(1, learned, 0.0)
        train_s, val_s = [], []
        num_val = len(learner.data.val_rows)
        for epoch in range(2, ROUNDS + 2):
            learned = learner.learn(epoch)
            train_s.append(learned.seconds / learned.num_images)
            began_s = time.perf_counter()
            learner.validate(epoch, learned, 0.0)
            val_s.append((time.perf_counter() - began_s) / num_val)
    return Timings(tuple(train_s), tuple(val_s), build_s + _keep_s(learner))


def noise(config: TrialConfig, num_classes: int, num_steps: int, num_val: int) -> TrainingData:
    """`num_steps` batches of noise to learn from, of which `num_val` images validate, again and
    again where there are fewer.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(num_steps * config.batch_size)
    shape = (len(rows), config.image_size, config.image_size, config.channels)
    return TrainingData(
        images=torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)),
        labels=rows % num_classes,
        train_rows=rows,
        val_rows=np.resize(rows, num_val),
        classes=tuple(str(k) for k in range(num_classes)),
    )


def _learner(
    config: TrialConfig, num_classes: int, device: torch.device, num_steps: int
) -> tuple[Learner, float]:
    """A learner over `num_steps` batches of noise, and the seconds it took to build."""
    num_val = config.batch_size * max(2, num_steps // 4)
    data = noise(config, num_classes, num_steps, num_val)
    began_s = time.perf_counter()
    learner = Learner(config, data, device, Collective())
    return learner, time.perf_counter() - began_s


def _keep_s(learner: Learner) -> float:
    """Seconds to copy the best weights and to write them."""
    began_s = time.perf_counter()
    state = learner.weights()
    assert state is not None
    with tempfile.TemporaryDirectory(prefix="raylab-speed-") as folder:
        save_model(Path(folder), learner.config, learner.data.classes, state)
    return time.perf_counter() - began_s
