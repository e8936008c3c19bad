"""Where results came from: versions, hardware, and the state of the code, without any network."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import raylab
from raylab import __version__
from raylab.config.identity import digest
from raylab.machine import num_cpus

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
        "code": code_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu_name(),
        "num_cpus": num_cpus(),
        "memory_bytes": _memory_bytes(),
        "gpus": gpus(),
        "git_sha": git_sha(folder),
        "git_diff": None if diff is None else diff[:MAX_DIFF_CHARS],
    }


@cache
def code_digest() -> str:
    """12 hex digits over raylab's own source: it tells installed code apart that has no commit.

    Read once: what changes on disk afterwards is not what this process runs.
    """
    root = Path(raylab.__file__).parent
    files = sorted(root.rglob("*.py"))
    return digest([[str(file.relative_to(root)), file.read_text("utf-8")] for file in files])


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two environments do not have in common: name → (then, now), packages one by one."""
    flat_then, flat_now = _flat(then), _flat(now)
    names = dict.fromkeys([*flat_then, *flat_now])
    pairs = {name: (flat_then.get(name), flat_now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = dict(environment.get("packages", {}))
    return {k: v for k, v in environment.items() if k != "packages"} | packages


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


def gpus() -> list[str]:
    """One line per NVIDIA GPU of this machine: name, memory, driver; loads no torch."""
    query = "--query-gpu=name,memory.total,driver_version"
    text = _output(["nvidia-smi", query, "--format=csv,noheader"])
    return [] if text is None else [line.strip() for line in text.splitlines() if line.strip()]


def num_visible_gpus() -> int:
    """How many of them Ray takes: no more than CUDA_VISIBLE_DEVICES names."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named in ("", "NoDevFiles"):
        return 0
    found = len(gpus())
    return found if named is None else min(found, len(named.split(",")))
