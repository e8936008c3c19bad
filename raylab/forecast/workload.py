"""From a trial's config to its workload: what decides how long its steps take, and nothing else."""

from collections.abc import Iterable
from typing import Any

from raylab.config.trial import TrialConfig

Workload = tuple[tuple[str, Any], ...]
"""(field, value) of every field that costs time; for a switch, whether it is on."""

_FREE = {
    *("lr", "lr_schedule", "layer_decay", "head_lr_scale", "weight_decay", "momentum"),
    *("seed", "split", "epochs", "warmup_epochs", "patience", "pretrained", "pretrained_digest"),
    *("drop_suspects", "drop_suspects_digest", "soft_labels", "crop", "interpolation"),
    *("teacher", "teacher_digest", "teacher_weight"),
    *("label_smoothing", "loss", "class_weights", "effective_beta", "focal_gamma", "gce_q"),
}
"""Fields that change what is learned and not how long a step takes; a new field is none of them
until it is written here."""
TIMED = (frozenset(TrialConfig.model_fields) - _FREE) | {"epochs", "patience", "split"}
"""Fields on which it hangs how long a whole trial takes."""


def workload_of(config: TrialConfig) -> Workload:
    """Trials of one workload take equally long per image."""
    return tuple((name, _cost(name, value)) for name, value in config if name not in _FREE)


def costly(fields: Iterable[str]) -> list[str]:
    """The flat names among them that tell one workload from another."""
    return [name for name in fields if name.partition(".")[0] not in _FREE]


def workload_name(workload: Workload) -> str:
    """`resnet18 at 64 px, batches of 128`."""
    known = dict(workload)
    return f"{known['model']} at {known['image_size']} px, batches of {known['batch_size']}"


def _cost(name: str, value: Any) -> Any:
    """What of a value costs time: of a strength, that it is there; of operations, which are on."""
    if name == "augment":
        on = value.model_dump(exclude_defaults=True)
        return tuple((key, _cost("", each)) for key, each in sorted(on.items()))
    return value > 0 if isinstance(value, float) else value
