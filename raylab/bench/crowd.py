"""Very many slots of waiting trials on one driver; `python -m` runs it with a Ray of its own.

The trials wait instead of training; queue, collector, records and Tune are the real ones.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from raylab.bench.stage import Stage
from raylab.bench.trials import (
    CPU_ONLY,
    FILLER_SEED,
    SteppedSweeping,
    plan_of,
    run_steps,
    sweep_of,
)
from raylab.bench.waiting import wait
from raylab.bench.watch import wall
from raylab.sweep.cluster import capacity_now, connected, quiet_ray
from raylab.training.epoch import EpochRow

EPOCHS = 2
"""How often a waiting trial reports."""


class WaitingSweeping(SteppedSweeping):
    """raylab's runner with a trial that sleeps."""

    train_function = staticmethod(wait)
    epoch_s = 0.0
    num_slots = 1
    folder = ""

    def shared(self, variants: Any) -> Any:
        """What `wait` needs; nothing in it makes a process import torch."""
        row = EpochRow(0, 1.0, 0.5, 1.0, 0.5, 0.5, 1e-3, self.epoch_s, 1.0)
        rows = [{**asdict(row), "epoch": epoch + 1} for epoch in range(EPOCHS)]
        rows[-1]["is_last"] = True
        facts = {"num_train": 100, "num_val": 20, "num_workers": 1, "device": "none"}
        return {
            "epoch_s": self.epoch_s,
            "filler_seed": FILLER_SEED,
            "rows": [{**each, **facts} for each in rows],
            "folder": self.folder,
            "num_slots": self.num_slots,
        }


def run(folder: Path, num_trials: int, trial_s: float) -> dict[str, float]:
    """Keeps every slot of the connected Ray busy; the share of their time that trials waited."""
    capacity = capacity_now()
    slots = int(sum(cpus for cpus, _ in capacity.nodes))
    trial = {"model": "cnn", "image_size": 8, "channels": 1, "epochs": EPOCHS}
    sweep = sweep_of("crowd", "toy:num=140", trial, seeds=num_trials, keep=0, resources=CPU_ONLY)
    plan = plan_of(sweep)
    stage = Stage(folder, quick=False, num_cpus=slots, capacity=capacity)
    given = {"epoch_s": trial_s / EPOCHS, "num_slots": slots, "folder": str(folder / "warm")}
    kind = type("Waiting", (WaitingSweeping,), given)
    began = time.monotonic()
    seen = run_steps(stage, plan, [list(plan.configs())], kind)
    wall_s = wall(seen)
    busy = num_trials * trial_s / (slots * wall_s)
    return {"slots": slots, "wall_s": wall_s, "busy": busy, "all_s": time.monotonic() - began}


def main() -> None:
    """stdin: folder, slots, trials, seconds per trial as JSON; stdout's last line: the answer."""
    given = json.load(sys.stdin)
    ray.init(
        address="local",
        num_cpus=given["slots"],
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    quiet_ray()
    with connected(None):
        answer = run(Path(given["folder"]), given["num_trials"], given["trial_s"])
    ray.shutdown()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
