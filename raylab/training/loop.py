"""From a trial config and uint8 images to epochs and the best epoch's model; the loop itself.

B = images of one worker's batch, N = images held by this worker, K = classes.
It knows neither Ray nor files: workers meet in `Collective`, results leave through `report`.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.training.augment import Augment
from raylab.training.batches import batch_sizes, epoch_batches, num_batches
from raylab.training.ema import Ema
from raylab.training.epoch import Best, EpochRow
from raylab.training.evaluate import Evaluation, evaluate
from raylab.training.layers import Unfreezing, set_train_mode
from raylab.training.loss import class_weights, loss_of
from raylab.training.memory import breaks_process, is_out_of_memory
from raylab.training.metrics import accuracy, macro_f1
from raylab.training.mixing import mix
from raylab.training.model import build_model, compiled
from raylab.training.optim import Schedule, build_optimizer
from raylab.training.pixels import Pixels
from raylab.training.precision import AMP_DTYPES, fast_convolutions, name_of, resolve_amp
from raylab.training.seeds import Purpose, seed_of
from raylab.training.state import State, to_cpu
from raylab.training.step import Stepper
from raylab.training.swa import NUM_BN_IMAGES, Swa
from raylab.training.worker import Collective, TrainingData

# Without a second worker a diverged epoch is cut short; asking more often would stall a GPU.
STEPS_BETWEEN_LOSS_CHECKS = 100


class DivergedError(CannotFinish):
    """The loss is no longer a finite number; the text says where and at which learning rate."""


@dataclass
class Outcome:
    """A finished trial's training."""

    best_epoch: int
    best_probs: npt.NDArray[np.float32]
    best_state: dict[str, torch.Tensor] | None
    epochs: list[EpochRow] = field(default_factory=list)


Report = Callable[[EpochRow, Callable[[], State]], None]


def train(
    config: TrialConfig,
    data: TrainingData,
    device: torch.device,
    collective: Collective,
    report: Report,
    resume: State | None = None,
    *,
    metric: str = "val_accuracy",
    mode: Literal["max", "min"] = "max",
    best: Best | None = None,
    resumed: Callable[[list[EpochRow]], None] = lambda rows: None,
) -> Outcome:
    """Train one trial; `report(row, state)` is called after every epoch, on every worker.

    `state()` gives what `resume` takes, per worker: epochs after it are the same bit for bit.
    `resumed(rows)` is called first, with its epochs, unless it fits no trial of this code.
    Raises DivergedError when a loss is nan or inf, ValueError when config and model disagree.
    """
    best = best if best is not None else Best()
    with fast_convolutions(device):
        learner, rows = begun(config, data, device, collective, resume, best)
        if rows:
            resumed(rows)
        for epoch in range(len(rows) + 1, config.epochs + 1):
            began = time.perf_counter()
            learned = learner.learn(epoch)
            row, evaluation = learner.validate(epoch, learned, began)
            value = float(getattr(row, metric))
            if best.is_beaten_by(value, mode):
                best.epoch, best.value = epoch, value
                best.probs, best.state = evaluation.probs, learner.weights()
            is_last = epoch == config.epochs or 0 < config.patience <= epoch - best.epoch
            rows.append(replace(row, is_last=is_last))
            report(rows[-1], lambda: learner.state(rows, best))
            if is_last:
                break
    assert best.probs is not None
    return Outcome(best.epoch, best.probs, best.state, rows)


def begun(
    config: TrialConfig,
    data: TrainingData,
    device: torch.device,
    collective: Collective,
    resume: State | None,
    best: Best,
) -> tuple["Learner", list[EpochRow]]:
    """What learns, and the epochs behind it; none where `resume` is of another network or code.
    Raises the device's own errors.
    """
    learner = Learner(config, data, device, collective)
    if resume is None:
        return learner, []
    try:
        return learner, learner.restore(resume, best)
    except Exception as error:  # what does not fit says so by errors of many kinds
        if is_out_of_memory(error) or breaks_process(error):
            raise  # the state is whole, and another try may go on from it
    del learner  # before the other one: a device may not hold two
    return Learner(config, data, device, collective), []


@dataclass(frozen=True)
class Learned:
    """One epoch's training sums over all workers."""

    loss: float
    accuracy: float
    num_images: int
    seconds: float
    lr: float


class Learner:
    """Model, optimiser and data of one trial on one worker."""

    def __init__(
        self,
        config: TrialConfig,
        data: TrainingData,
        device: torch.device,
        collective: Collective,
    ) -> None:
        self.config, self.data, self.device, self.collective = config, data, device, collective
        torch.manual_seed(seed_of(config.seed, Purpose.INIT))  # the same on every worker
        model = build_model(config, len(data.classes)).to(device)
        self.model = model.to(memory_format=torch.channels_last)
        self.pixels = Pixels(data.images, config, device, data.pixel_rows)
        targets = data.labels if data.soft_labels is None else data.soft_labels
        self.targets = torch.tensor(targets, device=device)
        self.augment = Augment(config.augment)
        self.amp = self._agreed_amp()
        self.scaler = self._scaler()
        self.optimizer = build_optimizer(self.model, config)
        self.unfreezing = Unfreezing(self.model, config.unfreeze_epochs)
        self.ema = Ema(self.model, config.ema_decay) if config.ema_decay > 0 else None
        self.swa = Swa(self.model, config) if config.swa_frac > 0 else None
        self._count_images()
        self.schedule = Schedule(config, self.optimizer, self.num_steps)
        self.weights_per_class = self._class_weights()
        self.stepper: Stepper | None = None

    def _agreed_amp(self) -> torch.dtype | None:
        """Workers on unlike machines follow the first one's choice."""
        batch_size = min(self.config.batch_size, len(self.data.train_rows))
        config = self.config.model_copy(update={"batch_size": batch_size})
        own = AMP_DTYPES.index(resolve_amp(config, self.device))
        votes = np.array([own if self.collective.rank == 0 else 0], dtype=np.float64)
        return AMP_DTYPES[int(self.collective.sum_counts(votes)[0])]

    def _scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device.type, enabled=self.amp is torch.float16)

    def _count_images(self) -> None:
        """Every worker takes the same number of steps, and knows each global batch's size."""
        counts = np.zeros(self.collective.world)
        counts[self.collective.rank] = len(self.data.train_rows)
        per_rank = [int(n) for n in self.collective.sum_counts(counts)]
        if min(per_rank) == 0:
            raise ValueError(f"a worker has no training image (images per worker: {per_rank})")
        self.num_train = sum(per_rank)
        self.num_steps = min(num_batches(self.num_train, self.config.batch_size), *per_rank)
        sizes = [batch_sizes(n, self.num_steps) for n in per_rank]
        self.global_sizes = [int(n) for n in np.sum(sizes, axis=0)]

    def _class_weights(self) -> torch.Tensor | None:
        if self.config.class_weights == "none":
            return None
        own = np.bincount(
            self.data.labels[self.data.train_rows], minlength=len(self.data.classes)
        ).astype(np.float64)
        weights = class_weights(self.config, self.collective.sum_counts(own))
        return torch.from_numpy(weights).float().to(self.device)

    def _stepper(self, num_micro_batches: int = 1) -> Stepper:
        model = self.collective.wrap(self.model)
        return Stepper(
            model=compiled(model) if self.config.compile else model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            amp=self.amp,
            loss=loss_of(self.config, self.weights_per_class),
            sam_rho=self.config.sam_rho,
            may_cut=self.collective.world == 1,
            num_micro_batches=num_micro_batches,
        )

    def learn(self, epoch: int) -> Learned:
        """One pass over the training images."""
        began = time.perf_counter()
        if self.unfreezing.begin(epoch) or self.stepper is None:  # a resume has its weights by now
            # Wrapped anew: DDP adds up the gradients of what learned when it was made.
            self.stepper = self._stepper(self.stepper.num_micro_batches if self.stepper else 1)
        stepper = self.stepper
        set_train_mode(stepper.model)
        seed, rank = self.config.seed, self.collective.rank
        torch.manual_seed(seed_of(seed, Purpose.DROPOUT, epoch, rank))
        generator = torch.Generator(self.device)
        generator.manual_seed(seed_of(seed, Purpose.AUGMENT, epoch, rank))
        rng = np.random.default_rng(seed_of(seed, Purpose.MIX, epoch, rank))
        losses = torch.zeros(self.num_steps, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for step, rows in enumerate(self._batches(epoch)):
            self.schedule.set_lr(epoch, step)
            images, targets = self._inputs(rows, generator, rng)
            # Workers average gradients; times world / global size it is the global batch's mean.
            share = self.collective.world / self.global_sizes[step]
            losses[step], hits = stepper(images, targets, share)
            if self.ema is not None:
                self.ema.update()
            correct += hits
            if self.collective.world == 1 and step % STEPS_BETWEEN_LOSS_CHECKS == 1:
                self._check_finite(losses[: step + 1].cpu().numpy(), epoch)
        if self.swa is not None and self.swa.counts(epoch):
            self.swa.update(self.model, self._some_images(epoch), self.amp)
        return self._sum_up(epoch, losses, int(correct), began)

    def _batches(self, epoch: int) -> Iterator[torch.Tensor]:
        """This worker's rows of each step; the epoch's order goes to the pixels in one copy."""
        rows = self.data.train_rows
        batches = epoch_batches(
            self.data.labels[rows],
            self.config.batch_size,
            self.config.sampler,
            seed_of(self.config.seed, Purpose.ORDER, rank=self.collective.rank),
            epoch,
            num_steps=self.num_steps,
        )
        order = torch.from_numpy(rows[np.concatenate(batches)]).to(self.pixels.images.device)
        yield from torch.split(order, [len(batch) for batch in batches])

    def _some_images(self, epoch: int) -> Iterator[torch.Tensor]:
        """The epoch's first batches once more, as many as BatchNorm's statistics need."""
        seed = seed_of(self.config.seed, Purpose.AVERAGE, epoch, self.collective.rank)
        torch.manual_seed(seed)  # dropout, as while learning
        generator = torch.Generator(self.device).manual_seed(seed)
        rng = np.random.default_rng(seed)
        num_batches = -(-NUM_BN_IMAGES // self.global_sizes[0])
        for rows in itertools.islice(self._batches(epoch), num_batches):
            yield self._inputs(rows, generator, rng)[0]

    def _inputs(
        self, rows: torch.Tensor, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented, mixed, normalised (B, C, H, W), and labels (B,) or soft targets (B, K)."""
        images = self.augment(self.pixels.take(rows), generator)
        targets = self.targets.index_select(0, rows.to(self.device, non_blocking=True))
        if self.config.mixup > 0 or self.config.cutmix > 0:
            num_classes = len(self.data.classes)
            images, targets = mix(
                images, targets, num_classes, self.config.mixup, self.config.cutmix, rng
            )
        return self.pixels.normalize(images), targets

    def _check_finite(self, losses: npt.NDArray[Any], epoch: int) -> None:
        """losses: (steps,), summed over images."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            raise DivergedError(
                f"loss became {losses[bad[0]]} in epoch {epoch}, step {bad[0] + 1} of "
                f"{self.num_steps}; lr {self.schedule.lr:g}, try a smaller one"
            )

    def _sum_up(self, epoch: int, losses: torch.Tensor, correct: int, began: float) -> Learned:
        own = np.append(losses.cpu().numpy().astype(np.float64), correct)
        sums = self.collective.sum_counts(own)
        self._check_finite(sums[:-1], epoch)
        return Learned(
            loss=float(sums[:-1].sum()) / self.num_train,
            accuracy=float(sums[-1]) / self.num_train,
            num_images=self.num_train,
            seconds=time.perf_counter() - began,
            lr=self.schedule.lr,
        )

    @property
    def validated(self) -> nn.Module:
        """The model that is validated and kept."""
        if self.swa is not None and self.swa.has_begun:
            return self.swa.module
        return self.ema.module if self.ema is not None else self.model

    def validate(self, epoch: int, learned: Learned, began: float) -> tuple[EpochRow, Evaluation]:
        """Exact over the whole validation split: counts and losses add up over the workers."""
        self.collective.average_buffers(self.validated)
        own = evaluate(
            self.validated,
            self.pixels,
            self.data.labels,
            self.data.val_rows,
            len(self.data.classes),
            tta=self.config.tta,
            amp=self.amp,
        )
        sums = self.collective.sum_counts(np.append(own.counts.ravel(), own.loss_sum))
        counts = np.rint(sums[:-1]).astype(np.int64).reshape(own.counts.shape)
        val_loss = float(sums[-1]) / max(1, int(counts.sum()))
        if not math.isfinite(val_loss):
            raise DivergedError(
                f"val_loss became {val_loss} in epoch {epoch}; lr {learned.lr:g}, try a smaller one"
            )
        self.schedule.end_epoch(val_loss)
        return EpochRow(
            epoch=epoch,
            train_loss=learned.loss,
            train_accuracy=learned.accuracy,
            val_loss=val_loss,
            val_accuracy=accuracy(counts),
            val_macro_f1=macro_f1(counts),
            lr=learned.lr,
            seconds=time.perf_counter() - began,
            train_images_per_s=learned.num_images / max(learned.seconds, 1e-9),
            precision=name_of(self.amp),
            num_micro_batches=self.stepper.num_micro_batches if self.stepper else 1,
        ), own

    def weights(self) -> dict[str, torch.Tensor] | None:
        """A copy on the CPU of the validated model's state dict; None but on rank 0."""
        if self.collective.rank != 0:
            return None
        copies: dict[str, torch.Tensor] = to_cpu(self.validated.state_dict())
        return copies

    def state(self, rows: list[EpochRow], best: Best) -> State:
        """Everything `restore` needs, on the CPU and detached from what goes on learning."""
        return {
            "rank": self.collective.rank,
            "epoch": len(rows),
            "epochs": [asdict(row) for row in rows],
            "model": to_cpu(self.model.state_dict()),
            "ema": to_cpu(self.ema.state_dict()) if self.ema is not None else None,
            "swa": to_cpu(self.swa.state_dict()) if self.swa is not None else None,
            "optimizer": to_cpu(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "amp": name_of(self.amp),
            "num_micro_batches": self.stepper.num_micro_batches if self.stepper else 1,
            "best": {
                "epoch": best.epoch,
                "value": best.value,
                "probs": None if best.probs is None else torch.from_numpy(best.probs),
                "state": best.state,
            },
        }

    def restore(self, state: State, best: Best) -> list[EpochRow]:
        """Go on where `state` was taken; gives the epochs so far. Where it raises, `best` is as it
        was.
        """
        if state["rank"] != self.collective.rank:
            raise ValueError(
                f"the state of rank {state['rank']} was given to rank {self.collective.rank}"
            )
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.swa is not None:
            self.swa.load_state_dict(state["swa"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # It goes on as it began: another machine's probe might have chosen otherwise.
        self.amp = next(dtype for dtype in AMP_DTYPES if name_of(dtype) == state["amp"])
        self.scaler = self._scaler()
        self.scaler.load_state_dict(state["scaler"])
        self.stepper = self._stepper(state["num_micro_batches"])
        rows, kept = [EpochRow(**row) for row in state["epochs"]], state["best"]
        probs = None if kept["probs"] is None else kept["probs"].numpy()
        best.epoch, best.value, best.state = kept["epoch"], kept["value"], kept["state"]
        best.probs = probs
        return rows
