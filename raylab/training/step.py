"""One optimiser step, cut into micro-batches where memory does not hold the whole batch.

B = images of one worker's batch, C = channels, H = W = side in px, K = classes.
"""

from dataclasses import dataclass

import torch
from torch import nn

from raylab.training.loss import Loss
from raylab.training.memory import is_out_of_memory
from raylab.training.sam import at_worst_point

MIN_MICRO_BATCH = 2  # BatchNorm cannot learn from one image


@dataclass
class Stepper:
    """Forward, backward and optimiser step, with gradient accumulation when memory runs out."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    amp: torch.dtype | None
    loss: Loss
    may_cut: bool
    """Whether micro-batches are allowed: with other workers, all would have to cut at once."""
    num_micro_batches: int = 1
    """1 until memory first ran out; the batch, and so the gradient's mean, stays the same."""
    sam_rho: float = 0.0
    """Of sharpness-aware minimisation; 0 = off."""

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss summed over these images, and how many were right.

        images: float (B, C, H, W); targets: int64 (B,) or soft (B, K); share: what turns the sum
        of losses into the mean that is minimised. Raises what `is_out_of_memory` knows when not
        even two images at a time fit.
        """
        while True:
            try:
                loss_and_hits = self._gradients(images, targets, share)
                if self.sam_rho > 0:
                    with at_worst_point(self.model, self.sam_rho):
                        self._gradients(images, targets, share)
                break
            except RuntimeError as error:
                least = 2 * self.num_micro_batches * MIN_MICRO_BATCH
                if not is_out_of_memory(error) or not self.may_cut or len(images) < least:
                    raise
            # Out here the failed step's tensors are no longer held by the exception.
            self.num_micro_batches *= 2
            if images.device.type == "cuda":
                torch.cuda.empty_cache()
        # Not tried again: an optimiser that memory fails may have taken half of its step.
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss_and_hits

    def _gradients(
        self, images: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.optimizer.zero_grad()
        loss_sum = torch.zeros((), device=images.device)
        correct = torch.zeros((), dtype=torch.int64, device=images.device)
        parts = zip(
            images.tensor_split(self.num_micro_batches),
            targets.tensor_split(self.num_micro_batches),
            strict=True,
        )
        for part, wanted in parts:
            with torch.autocast(part.device.type, self.amp, enabled=self.amp is not None):
                logits = self.model(part)
            loss = self.loss(logits.float(), wanted)
            torch.autograd.backward(self.scaler.scale(loss * share))
            loss_sum += loss.detach()
            labels = wanted if wanted.ndim == 1 else wanted.argmax(1)
            correct += (logits.detach().argmax(1) == labels).sum()
        return loss_sum, correct
