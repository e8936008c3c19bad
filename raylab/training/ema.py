"""An exponential moving average of a model's weights, kept as a second model."""

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """`module` holds the average. The decay grows with the steps, (1 + t) / (10 + t) up to
    `decay`, so that a short training is not an average with its random start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model; integer buffers are copied."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages = list(self.module.state_dict().values())
        values = list(model.state_dict().values())
        pairs = list(zip(averages, values, strict=True))
        floats = [(a, v) for a, v in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [v for _, v in floats], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The average and its age; tensors are shared, not copied."""
        return {"num_updates": self.num_updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.num_updates = state["num_updates"]
        self.module.load_state_dict(state["module"])
