"""The bare loop: plain torch on images in memory, no framework; what a sweep is measured against.

N = images, S = image_size in px, C = channels, K = classes, B = batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from raylab.config.trial import TrialConfig
from raylab.training.evaluate import IMAGES_PER_BATCH
from raylab.training.model import build_model
from raylab.training.precision import resolve_amp

Rows = npt.NDArray[np.int64]
MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class BareJob:
    """`num_trials` trainings of one config, one after another, in one process.

    images: uint8 (N, S, S, C); labels: int64 (N,); train, val: int64 rows of both.
    """

    config: TrialConfig
    images: npt.NDArray[np.uint8]
    labels: Rows
    train: Rows
    val: Rows
    num_classes: int
    num_trials: int = 1
    naive: bool = False
    """As it is usually written: float32, contiguous, AdamW's default implementation."""
    device: str = "cpu"


def train_bare(job: BareJob) -> int:
    """Trains them all, validating after each epoch as a sweep does; gives the images trained on."""
    device = torch.device(job.device)
    amp = None if job.naive else resolve_amp(job.config, device)
    images = torch.tensor(job.images, device=device)
    labels = torch.tensor(job.labels, device=device)
    train, val = torch.tensor(job.train), torch.tensor(job.val)
    for seed in range(job.num_trials):
        torch.manual_seed(seed)
        model = build_model(job.config, job.num_classes).to(device)
        if not job.naive:
            model = model.to(memory_format=torch.channels_last)
        lr, decay, fused = job.config.lr, job.config.weight_decay, not job.naive
        optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay, fused=fused)
        for _ in range(job.config.epochs):
            model.train()
            order = train[torch.randperm(len(train))].to(device)
            for rows in torch.split(order, job.config.batch_size):
                batch = to_batch(images[rows], job.naive)
                with torch.autocast(device.type, amp, enabled=amp is not None):
                    logits = model(batch)
                loss = functional.cross_entropy(logits.float(), labels[rows])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
            validate(model, images, labels, val.to(device), amp, job.naive)
    return job.num_trials * job.config.epochs * len(train)


@torch.inference_mode()
def validate(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    amp: torch.dtype | None,
    naive: bool,
) -> float:
    """The accuracy over `rows`."""
    model.eval()
    correct = 0
    for part in torch.split(rows, IMAGES_PER_BATCH):
        with torch.autocast(images.device.type, amp, enabled=amp is not None):
            logits = model(to_batch(images[part], naive))
        correct += int((logits.argmax(1) == labels[part]).sum())
    return correct / max(1, len(rows))


def to_batch(images: torch.Tensor, naive: bool) -> torch.Tensor:
    """uint8 (B, S, S, C) -> normalised float32 (B, C, S, S), contiguous or channels last."""
    batch = images.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(MEAN).div_(STD)
    return batch.contiguous() if naive else batch
