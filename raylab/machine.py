"""How many CPUs this process may use, which may be fewer than the machine has."""

import math
import os
from pathlib import Path


def num_cpus() -> int:
    """The CPUs that this process may use, at least 1: of the machine's those that it is bound to
    (taskset, SLURM), and no more than its container's quota.
    """
    is_bound = hasattr(os, "sched_getaffinity")
    bound = len(os.sched_getaffinity(0)) if is_bound else os.cpu_count() or 1
    return max(1, int(min(bound, cpu_quota())))


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """How many CPUs' time the container gets (docker --cpus, Kubernetes' limits); else infinite."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:  # cgroups before version 2
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # none, or "max"
        return math.inf
