"""A trial of two workers: how long until its first step, and what reporting an epoch costs."""

import time

from raylab.bench.row import Row, at_most, judged
from raylab.bench.stage import Stage
from raylab.bench.trials import run_whole, sweep_of
from raylab.bench.watch import Seen
from raylab.config.sweep import Resources
from raylab.sweep.cluster import RAY_SWITCHES

QUICK_EPOCHS, FULL_EPOCHS = 10, 40
REPORT = at_most(0.1)
TRIAL = {"model": "cnn", "image_size": 32, "channels": 1}
SWITCH = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


def measure(stage: Stage) -> list[Row]:
    """Start to first step, the cost of a report, and of the end."""
    epochs = QUICK_EPOCHS if stage.quick else FULL_EPOCHS
    stage.note(f"group: one trial of 2 workers, {epochs} epochs")
    resources = Resources(workers=2, cpus=1, gpus=0.0)
    trial = {**TRIAL, "epochs": epochs}
    began = time.monotonic()
    seen = run_whole(stage, sweep_of("bench-group", "toy:num=280", trial, resources=resources))
    whole = "from the runner's start: 280 images prepared, the trial's Tune process started"
    first = seen[0].first_step_s - began
    start = judged("2-worker sweep, start to first step", first, "s", None, whole)
    return [start, *rows_of(seen[0])]


def rows_of(trial: Seen) -> list[Row]:
    """From what the driver saw of the trial to rows."""
    num = len(trial.arrivals_s) - 1
    between = trial.arrivals_s[-1] - trial.arrivals_s[0]
    cost = (between - sum(trial.epochs_s[1:])) / num
    start = trial.first_step_s - trial.started_s
    end = trial.ended_s - trial.arrivals_s[-1]
    poll = f"{SWITCH}={RAY_SWITCHES.get(SWITCH, 'unset (2 s)')}"
    report = f"mean of {num}: (first to last report - epochs) / reports; {poll}"
    return [
        judged(
            "2-worker trial, start to first step",
            start,
            "s",
            None,
            "from its Tune process being up; cold",
        ),
        judged("2-worker trial, reporting an epoch", cost, "s", REPORT, report),
        judged("2-worker trial, last report to end", end, "s", None, "the group is taken down"),
    ]
