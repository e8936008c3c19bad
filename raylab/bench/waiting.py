"""A trial that only waits: no torch, so that very many of its processes fit one machine."""

import time
from typing import Any

import ray.tune


def wait(params: dict[str, Any], shared: dict[str, Any]) -> None:
    """The Tune function: sleeps its epochs and reports each as a trial does."""
    for row in shared["rows"]:
        time.sleep(shared["epoch_s"])
        ray.tune.report(row)
