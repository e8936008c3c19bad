"""Where results came from: versions, hardware, and the state of the code, without any network."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from raylab import __version__

PACKAGES = ("ray", "torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "optuna", "pillow")

# A diff longer than this is a checked-in artefact, not a change one would read.
MAX_DIFF_CHARS = 200_000


def environment(folder: Path | None = None) -> dict[str, Any]:
    """Versions, hardware, git commit and diff of the repository that `folder` (or the cwd) is in.

    Environment variables, user and host names are left out: results are meant to be passed on.
    """
    diff = _output(["git", "diff", "HEAD", "--no-ext-diff"], folder)
    return {
        "raylab": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu_name(),
        "num_cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
        "git_sha": git_sha(folder),
        "git_diff": None if diff is None else diff[:MAX_DIFF_CHARS],
    }


def git_sha(folder: Path | None = None) -> str | None:
    """The commit, with `+` behind it if tracked files differ from it; None outside a repository."""
    sha = _output(["git", "rev-parse", "HEAD"], folder)
    if sha is None:
        return None
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no"], folder)
    return sha.strip() + ("+" if changed and changed.strip() else "")


def _output(command: Sequence[str], folder: Path | None = None) -> str | None:
    """What the command prints, or None if it is not there, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=True,
            # Reading must not wait for the lock of a git that is at work.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus() -> list[str]:
    """One line per GPU: name, memory, driver."""
    query = "--query-gpu=name,memory.total,driver_version"
    text = _output(["nvidia-smi", query, "--format=csv,noheader"])
    return [] if text is None else [line.strip() for line in text.splitlines() if line.strip()]
