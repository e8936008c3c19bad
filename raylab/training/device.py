"""The device on which a process trains, and its name."""

import torch

from raylab.errors import CannotFinish


def device_for(has_gpu: bool) -> torch.device:
    """The GPU, or the share of one, that Ray gave this process; the CPU where it gave none.

    Raises CannotFinish where torch cannot use that GPU.
    """
    if not has_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CannotFinish(
            "torch cannot use the GPU that Ray gave this process (torch "
            f"{torch.__version__}, CUDA {torch.version.cuda}); install a torch that fits the "
            "node's driver, or give resources.gpus 0 to train on CPUs"
        )
    return torch.device("cuda")


def device_name(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
