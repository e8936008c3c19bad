"""The functions that need torch, by name: they import it when they are called, mostly by Ray in
another process.

Importing it costs a command's start seconds and 300 MB, and a sweep's driver does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raylab.config.trial import Filter, TrialConfig
from raylab.training.footprint import Footprint

if TYPE_CHECKING:
    from raylab.sweep.shared import Shared


def run_trial(params: dict[str, Any], shared: "Shared") -> None:
    """`raylab.sweep.trial.run_trial`: what Tune runs per trial."""
    import_module("raylab.sweep.trial").run_trial(params, shared)


def measure_on_gpu(config: TrialConfig, num_classes: int, image_bytes: int) -> Footprint:
    """`raylab.training.gpu_probe.measure_on_gpu`: a probe, on the GPU that Ray gave it."""
    found: Footprint = import_module("raylab.training.gpu_probe").measure_on_gpu(
        config, num_classes, image_bytes
    )
    return found


def pretrained_filter(config: TrialConfig) -> Filter:
    """`raylab.training.model.pretrained_filter`, which asks timm; in this process."""
    found: Filter = import_module("raylab.training.model").pretrained_filter(config)
    return found
