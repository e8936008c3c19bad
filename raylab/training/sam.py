"""The worst point near a model's weights, where sharpness-aware minimisation takes its gradient."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def at_worst_point(model: nn.Module, rho: float) -> Iterator[None]:
    """Inside, the weights stand `rho` (L2) further up their present gradients (Foret et al. 2021,
    equation 2); afterwards where they stood. BatchNorm's statistics do not hear what passes inside:
    they are those of the weights that are kept.
    """
    pairs = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        before = [p.clone() for p, _ in pairs]
        norm = torch.nn.utils.get_total_norm([gradient for _, gradient in pairs])
        scale = torch.where(norm.isfinite() & (norm > 0), rho / norm, 0.0)
    try:
        with torch.no_grad():
            for parameter, gradient in pairs:
                # inf * 0 is nan: a gradient that overflowed in float16 moves nothing.
                parameter.add_(torch.nan_to_num(gradient * scale, posinf=0.0, neginf=0.0))
        with _statistics_kept(model):
            yield
    finally:
        with torch.no_grad():
            for (parameter, _), value in zip(pairs, before, strict=True):
                parameter.copy_(value)


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
