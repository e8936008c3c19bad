"""From a trial's `amp` and a device to the autocast type."""

import torch

from raylab.config.trial import TrialConfig


def resolve_amp(config: TrialConfig, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for plain float32."""
    if config.amp == "none":
        return None
    if config.amp == "auto":
        return torch.bfloat16 if multiplies_bf16(device) else None
    return torch.bfloat16 if config.amp == "bf16" else torch.float16


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Older torch cannot say; plain float32 is then the safe answer.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
