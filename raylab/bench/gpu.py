"""The training core on a GPU, without Ray: against the bare loop, a fixed batch, and packed.

N = images, S = image_size in px, K = classes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from raylab.bench import side_by_side
from raylab.bench.bare import BareJob, to_batch, train_bare
from raylab.bench.row import Row, at_least, compared
from raylab.bench.side_by_side import SideBySide
from raylab.bench.stage import Stage
from raylab.config.trial import AUGMENT_PRESETS, SplitConfig, TrialConfig
from raylab.errors import Problem, Refused
from raylab.training.loop import train
from raylab.training.model import build_model
from raylab.training.precision import fast_convolutions, resolve_amp
from raylab.training.worker import Collective, TrainingData

PACKED = (1, 2, 4, 8)
NUM_CLASSES = 7
LIGHT = AUGMENT_PRESETS["light"]
PAYS = at_least(1)
CORE = at_least(0.92)
"""1 / 1.08: what a sweep may lose against the bare loop."""


def check() -> None:
    """Refused where torch sees no GPU."""
    if not torch.cuda.is_available():
        text = "torch.cuda sees no GPU on this machine; leave --gpu away to measure its CPUs"
        raise Refused([Problem("--gpu", text)], "the options", "nothing was measured")


def measure(stage: Stage) -> list[Row]:
    """One process: three ways to the same steps; then 1, 2, 4, 8 trials on one GPU."""
    job = job_on("cuda", num_images=6_000 if stage.quick else 40_000, image_size=64)
    rounds = 3 if stage.quick else 5
    stage.note("gpu: one process")
    with SideBySide(1) as processes:
        rows = one_process(processes, job, rounds)
    alone = 0.0
    for k in PACKED:
        stage.note(f"gpu: {k} processes")
        with SideBySide(k) as processes:
            rate = throughput(processes, train_core, job, rounds)
        alone = alone or rate
        how = f"{k} processes train at once; total images/s, best of {rounds}; baseline: one alone"
        rows.append(Row(f"{k} trials on one GPU", rate, "images/s", alone, rate / alone, how=how))
    return rows


def job_on(device: str, num_images: int, image_size: int) -> BareJob:
    """resnet18 over random images, two epochs, nine tenths of them to train on."""
    rng = np.random.default_rng(0)
    config = TrialConfig(
        image_size=image_size, epochs=2, batch_size=256, split=SplitConfig(train=0.9, val=0.1)
    )
    return BareJob(
        config=config,
        images=rng.integers(0, 256, (num_images, image_size, image_size, 3), dtype=np.uint8),
        labels=rng.integers(0, NUM_CLASSES, num_images),
        train=np.arange(num_images * 9 // 10),
        val=np.arange(num_images * 9 // 10, num_images),
        num_classes=NUM_CLASSES,
        device=device,
    )


def one_process(processes: SideBySide, job: BareJob, rounds: int) -> list[Row]:
    """Images per second of the core, the bare loop and a fixed batch, the three in turns."""
    sides: dict[Callable[[BareJob], int], list[float]] = {
        train_core: [],
        train_bare_fast: [],
        train_fixed_batch: [],
    }
    for side in sides:
        processes.run(side, job)
    for _ in range(rounds):
        for side, rates in sides.items():
            rates.append(rate_of(processes, side, job))
    core, bare, fixed = sides.values()
    light = replace(job, config=job.config.model_copy(update={"augment": LIGHT}))
    processes.run(train_core, light)
    with_light = [rate_of(processes, train_core, light) for _ in range(rounds)]
    compiled = replace(job, config=job.config.model_copy(update={"compile": True}))
    processes.run(train_core, compiled)  # what follows finds its kernels in torch's cache
    compiled_rates = [rate_of(processes, train_core, compiled) for _ in range(rounds)]
    name = f"resnet18 {job.config.image_size} px, training core"
    how = f"validation included, {rounds} rounds in turns, medians; ratio = core / other"
    return [
        compared(f"{name} / bare loop", core, bare, "images/s", CORE, how),
        compared(f"{name} / forward-backward on a fixed batch", core, fixed, "images/s", None, how),
        compared(f"{name}, augment light / none", with_light, core, "images/s", None, how),
        compared(f"{name}, compile: true / false", compiled_rates, core, "images/s", PAYS, how),
    ]


def rate_of(processes: SideBySide, side: Callable[[BareJob], int], job: BareJob) -> float:
    """Images per second of all processes together."""
    parts = processes.run(side, job)
    trained: int = sum(part.result for part in parts)
    return trained / side_by_side.wall(parts)


def throughput(
    processes: SideBySide, side: Callable[[BareJob], int], job: BareJob, rounds: int
) -> float:
    """The best of several rounds after one that warms up."""
    processes.run(side, job)
    return max(rate_of(processes, side, job) for _ in range(rounds))


def train_core(job: BareJob) -> int:
    """raylab's own training loop; gives the images trained on."""
    data = TrainingData(
        images=torch.from_numpy(job.images),
        labels=job.labels,
        train_rows=job.train,
        val_rows=job.val,
        classes=tuple(f"class {k}" for k in range(job.num_classes)),
    )
    train(job.config, data, torch.device(job.device), Collective(), lambda row, state: None)
    return job.config.epochs * len(job.train)


def train_bare_fast(job: BareJob) -> int:
    """The bare loop with the convolutions that cuDNN measures fastest, as the core has them."""
    with fast_convolutions(torch.device(job.device)):
        return train_bare(job)


def train_fixed_batch(job: BareJob) -> int:
    """The same number of steps on one batch that lies on the device: no data, no validation."""
    device = torch.device(job.device)
    amp = resolve_amp(job.config, device)
    size = job.config.batch_size
    model = build_model(job.config, job.num_classes).to(device)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.config.lr, fused=True)
    batch = to_batch(torch.tensor(job.images[:size], device=device), naive=False)
    labels = torch.tensor(job.labels[:size], device=device)
    num_steps = job.config.epochs * (len(job.train) // size)
    with fast_convolutions(device):
        for _ in range(num_steps):
            with torch.autocast(device.type, amp, enabled=amp is not None):
                logits = model(batch)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
            optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return num_steps * size
