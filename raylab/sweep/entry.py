"""The functions that Ray calls in other processes, by name: what they need is imported there.

A driver that only sends them loads no torch, which would cost every command's start seconds and
300 MB.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raylab.config.trial import TrialConfig
from raylab.sweep.shared import Shared

if TYPE_CHECKING:
    from raylab.training.footprint import Footprint


def run_trial(params: dict[str, Any], shared: Shared) -> None:
    """`raylab.sweep.trial.run_trial`: what Tune runs per trial."""
    import_module("raylab.sweep.trial").run_trial(params, shared)


def measure_on_gpu(config: TrialConfig, num_classes: int) -> "Footprint":
    """`raylab.training.footprint.measure_on_gpu`: a probe, on the GPU that Ray gave it."""
    found: Footprint = import_module("raylab.training.footprint").measure_on_gpu(
        config, num_classes
    )
    return found
