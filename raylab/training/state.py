"""What a trial goes on from, as values that need no device."""

from typing import Any

import torch

State = dict[str, Any]
"""All that resuming needs: tensors on the CPU, numbers, strings."""


def to_cpu(value: Any) -> Any:
    """A copy of a nest of dicts and lists, its tensors cloned to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(part) for part in value)
    return value
