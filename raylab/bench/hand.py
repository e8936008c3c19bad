"""The hand-written loop, as people write it: ImageFolder, DataLoader workers, CPU transforms."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from raylab.config.trial import TrialConfig
from raylab.training.model import build_model

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
WARM_STEPS = 1

Step = Callable[[torch.Tensor, torch.Tensor], None]
"""What is done with a batch: images float (B, 3, S, S), labels int64 (B,)."""


@dataclass(frozen=True, slots=True)
class HandJob:
    """A part of one epoch: so many steps of training, then of validation."""

    config: TrialConfig
    folder: str
    num_workers: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class HandTimes:
    """Seconds per image, after the loaders' workers have started."""

    train_s: float
    val_s: float


def train_by_hand(job: HandJob) -> HandTimes:
    """float32 on this process's threads, decoding, resizing and augmenting in loader workers."""
    size = (job.config.image_size, job.config.image_size)
    ending = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmenting = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(5),
        transforms.ColorJitter(0.1, 0.1, 0.1),
    ]
    resize = transforms.Resize(size)
    train_set = datasets.ImageFolder(job.folder, transforms.Compose([resize, *augmenting, *ending]))
    val_set = datasets.ImageFolder(job.folder, transforms.Compose([resize, *ending]))
    model = build_model(job.config, len(train_set.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.config.lr)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(images), labels))
        optimizer.step()

    model.train()
    train_s = seconds_per_image(job, train_set, step, shuffle=True)
    model.eval()
    with torch.no_grad():
        val_s = seconds_per_image(job, val_set, scorer(model), shuffle=False)
    return HandTimes(train_s, val_s)


def scorer(model: nn.Module) -> Step:
    """Counts hits, as a validation loop does."""

    def score(images: torch.Tensor, labels: torch.Tensor) -> None:
        int((model(images).argmax(1) == labels).sum())

    return score


def seconds_per_image(
    job: HandJob, images: datasets.ImageFolder, step: Step, *, shuffle: bool
) -> float:
    """Over `num_steps` batches after the first ones."""
    # A process that was spawned would spawn its loaders' workers, too, unlike a user's script.
    forks = job.num_workers > 0 and "fork" in multiprocessing.get_all_start_methods()
    loader = DataLoader(
        images,
        batch_size=job.config.batch_size,
        shuffle=shuffle,
        num_workers=job.num_workers,
        multiprocessing_context="fork" if forks else None,
    )
    num_images, began = 0, time.perf_counter()
    for number, (batch, labels) in enumerate(loader):
        if number == WARM_STEPS + job.num_steps:
            break
        step(batch, labels)
        if number < WARM_STEPS:
            began = time.perf_counter()
        else:
            num_images += len(labels)
    return (time.perf_counter() - began) / max(1, num_images)
