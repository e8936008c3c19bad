"""A trial that only waits: no torch, so that very many of its processes fit one machine."""

import os
import time
from pathlib import Path
from typing import Any

import ray.tune

PATIENCE_S = 400


def wait(params: dict[str, Any], shared: dict[str, Any]) -> None:
    """The Tune function: sleeps its epochs and reports each as a trial does; a filler ends at once,
    or its slot would count as idle when the measured trials begin.
    """
    gather(Path(shared["folder"]), shared["num_slots"])
    is_filler = params["config"]["seed"] >= shared["filler_seed"]
    for row in shared["rows"]:
        time.sleep(0 if is_filler else shared["epoch_s"])
        ray.tune.report(row)


def gather(folder: Path, num_slots: int) -> None:
    """Until a process runs in every slot.

    Two cores start one of them in two seconds; a trial that ended before the next process stood
    would have Tune give that one's trial to the process that is there, and start another, for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(os.getpid())).touch()
    ends_at = time.monotonic() + PATIENCE_S
    while len(os.listdir(folder)) < num_slots and time.monotonic() < ends_at:
        time.sleep(0.2)
