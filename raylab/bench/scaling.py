"""Throughput over slots of this machine, and one driver over very many waiting slots."""

import os
from pathlib import Path

from raylab.bench import watch
from raylab.bench.alone import run_alone
from raylab.bench.row import Row, at_least, compared, judged
from raylab.bench.stage import Stage
from raylab.bench.trials import CPU_ONLY, plan_of, run_steps, slots_of, sweep_of
from raylab.bench.watch import Seen
from raylab.sweep.cluster import RAY_SWITCHES, Capacity

ROUNDS = 2
TRIAL = {"model": "cnn", "image_size": 48}
PER_SLOT, BUSY = at_least(0.9), at_least(0.95)
CLUSTER_SLOTS, CLUSTER_TRIAL_S = 256, 60.0
"""The cluster that is simulated: fewer slots here run shorter trials, so that the one driver has
as many starts, reports and ends per second to handle."""
PROCESS_BYTES = 200 * 2**20
"""One waiting process without torch, measured; with its share of libraries."""
MAX_PROCESSES = {True: 8, False: 64}
TRIALS_PER_SLOT = {True: 8, False: 20}
TIMEOUT_S = 590


def measure_slots(stage: Stage) -> list[Row]:
    """Images per second of the same trials in all slots over one slot's, in turns."""
    all_slots = slots_of(stage)
    stage.note(f"scaling: 1 and {all_slots} slots")
    trial = {**TRIAL, "epochs": 1 if stage.quick else 4}
    data = "toy:num=300" if stage.quick else "toy"
    rates: dict[int, list[float]] = {1: [], all_slots: []}
    for number in range(ROUNDS):
        for k in rates:
            sweep = sweep_of(
                f"bench-slots-{k}-{number}", data, trial, seeds=2 * all_slots, resources=CPU_ONLY
            )
            plan = plan_of(sweep)
            # Told of less, the runner uses less; Ray itself keeps all its CPUs.
            told = Stage(stage.folder, stage.quick, stage.num_cpus, Capacity(((float(k), 0.0),)))
            rates[k].append(images_per_s(run_steps(told, plan, [list(plan.configs())])))
    limit = at_least(PER_SLOT.number * all_slots)
    how = f"{2 * all_slots} trials in warm slots, {ROUNDS} rounds in turns; ratio = {all_slots} / 1"
    what = f"throughput, {all_slots} slots / 1"
    return [compared(what, rates[all_slots], rates[1], "images/s", limit, how)]


def images_per_s(seen: list[Seen]) -> float:
    """Images trained on per second of wall time."""
    records = [trial.record for trial in seen if trial.record is not None]
    trained = sum((record.num_train or 0) * record.num_epochs for record in records)
    return trained / watch.wall(seen)


def measure_crowd(stage: Stage) -> list[Row]:
    """The share of their time that the slots of a simulated cluster are busy."""
    num = min(MAX_PROCESSES[stage.quick], CLUSTER_SLOTS, available_bytes() // 2 // PROCESS_BYTES)
    num_trials, trial_s = num * TRIALS_PER_SLOT[stage.quick], CLUSTER_TRIAL_S * num / CLUSTER_SLOTS
    stage.note(f"scaling: {num_trials:,} waiting trials in {num} slots")
    answer = run_crowd(stage.place("crowd"), num, num_trials, trial_s)
    busy = answer["busy"]
    how = (
        f"{num_trials:,} trials that wait {trial_s:.2f} s in {num} processes of this "
        f"machine, as often as {CLUSTER_SLOTS} slots of {CLUSTER_TRIAL_S:.0f}-s trials: "
        f"{num_trials / answer['wall_s']:.1f} of {CLUSTER_SLOTS / CLUSTER_TRIAL_S:.1f} trials/s "
        "through queue, Tune, collector and records"
    )
    return [judged(f"slots busy, {CLUSTER_SLOTS} simulated", busy, "of 1", BUSY, how)]


def run_crowd(folder: Path, num_slots: int, num_trials: int, trial_s: float) -> dict[str, float]:
    """In a process and a Ray of its own, since logical CPUs are given when a Ray starts."""
    given = {
        "folder": str(folder),
        "slots": num_slots,
        "num_trials": num_trials,
        "trial_s": trial_s,
    }
    env = {**os.environ, **RAY_SWITCHES}
    return run_alone("raylab.bench.crowd", given, env, TIMEOUT_S, "the crowd of waiting trials")


def available_bytes() -> int:
    """Memory that new processes may take."""
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
