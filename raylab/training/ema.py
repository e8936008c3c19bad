"""An exponential moving average of a model's weights, kept as a second model."""

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """`module` holds the average of `model`, whose tensors have to stay the same ones. The decay
    grows with the steps, (1 + t) / (10 + t) up to `decay`, so that a short training is not an
    average with its random start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        pairs = list(
            zip(self.module.state_dict().values(), model.state_dict().values(), strict=True)
        )
        self._weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model; integer buffers are copied."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(
            [a for a, _ in self._weights], [v for _, v in self._weights], 1 - decay
        )
        if self._counts:
            torch._foreach_copy_([a for a, _ in self._counts], [v for _, v in self._counts])

    def state_dict(self) -> dict[str, Any]:
        """The average and its age; tensors are shared, not copied."""
        return {"num_updates": self.num_updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.num_updates = state["num_updates"]
        self.module.load_state_dict(state["module"])
