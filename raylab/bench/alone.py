"""A module of the bench in a process and a Ray of its own: JSON in, JSON as its last line out."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from raylab.errors import CannotFinish


def run_alone(
    module: str, given: Mapping[str, Any], env: Mapping[str, str], timeout_s: float, what: str
) -> dict[str, Any]:
    """What `python -m module` answers to `given`; CannotFinish, which names `what`, if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(given),
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotFinish(f"{what} took more than {timeout_s:.0f} s") from error
    if done.returncode:
        raise CannotFinish(f"{what} failed: {done.stderr[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
