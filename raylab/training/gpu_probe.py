"""From a trial config to what it takes of this GPU: memory at its peak, and the share of the time
that it keeps it busy.

A few real steps of the trial's own loop on made-up images; B = batch size.
"""

import torch
from torch.profiler import ProfilerActivity, profile

from raylab.config.trial import TrialConfig
from raylab.training.device import device_for
from raylab.training.evaluate import IMAGES_PER_BATCH
from raylab.training.footprint import Footprint
from raylab.training.loop import Learner
from raylab.training.pixels import RESIDENT_FRACTION
from raylab.training.precision import fast_convolutions
from raylab.training.speed import STILL, noise
from raylab.training.worker import Collective

NUM_STEPS = 8
# All stages learn, as they will in the end; what else is changed here takes no memory.
OPENED = STILL | {"unfreeze_epochs": 0}
# The CUDA context and cuDNN's handles, which torch's own count leaves out.
CONTEXT_BYTES = 600 * 2**20


def measure(
    config: TrialConfig, num_classes: int, device: torch.device, image_bytes: int = 0
) -> Footprint:
    """Train NUM_STEPS batches and validate once, after a first pass that warms up.

    device: a CUDA device; image_bytes: of all the images that a trial holds. Raises
    what `is_out_of_memory` knows where not even two images fit at a time.
    """
    gpu_bytes = torch.cuda.get_device_properties(device).total_memory
    resident = image_bytes if image_bytes <= RESIDENT_FRACTION * gpu_bytes else 0
    with fast_convolutions(device):
        learner = learner_of(config, num_classes, device)
        torch.cuda.empty_cache()  # of what building it took, or it would count as its peak
        torch.cuda.reset_peak_memory_stats(device)
        learned = learner.learn(1)
        learner.validate(1, learned, 0.0)
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            learned = learner.learn(2)
            torch.cuda.synchronize(device)
    kernel_us = sum(event.self_device_time_total for event in profiled.key_averages())
    return Footprint(
        peak_bytes=torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES + resident,
        # Where the profiler may not look, nothing is known to be idle.
        busy=min(1.0, kernel_us / 1e6 / learned.seconds) if kernel_us else 1.0,
        gpu_bytes=gpu_bytes,
    )


def learner_of(config: TrialConfig, num_classes: int, device: torch.device) -> Learner:
    """A learner over NUM_STEPS batches of noise, which validates a whole batch, as trials do."""
    data = noise(config, num_classes, NUM_STEPS, IMAGES_PER_BATCH)
    return Learner(config.model_copy(update=OPENED), data, device, Collective())


def measure_on_gpu(config: TrialConfig, num_classes: int, image_bytes: int) -> Footprint:
    """`measure` on this process's GPU, fed by one thread."""
    torch.set_num_threads(1)
    return measure(config, num_classes, device_for(has_gpu=True), image_bytes)
