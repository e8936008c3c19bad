"""Short trials: raylab against Ray's documented pattern, overhead per trial and wall time."""

import os
from collections.abc import Mapping
from typing import Any

from raylab.bench.alone import run_alone
from raylab.bench.row import Row, at_least
from raylab.bench.stage import Clock, Stage
from raylab.bench.trials import CPU_ONLY, plan_of, run_steps, run_whole, slots_of, sweep_of
from raylab.bench.watch import overhead_per_trial
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish
from raylab.images.toy import EMOTIONS, write_folder
from raylab.sweep.cluster import RAY_SWITCHES

TRIAL: dict[str, Any] = {"model": "cnn", "image_size": 48, "epochs": 2, "batch_size": 64}
NUM_IMAGES = 300
NUM_TRIALS, SHOWN_TRIALS = 24, {True: 1, False: 3}
OVERHEAD, WALL = at_least(100), at_least(10)
TIMEOUT_S = 420


def measure(stage: Stage) -> list[Row]:
    """A few trials of the pattern, and a sweep of many."""
    folder = stage.place("pattern-faces")
    write_folder(folder, NUM_IMAGES)
    num_shown = SHOWN_TRIALS[stage.quick]
    stage.note(f"documented: {num_shown} trials of the documented pattern")
    theirs = run_pattern(str(folder), num_shown)
    stage.note(f"documented: {NUM_TRIALS} trials of raylab")
    sweep = sweep_of("bench-short", str(folder), TRIAL, seeds=NUM_TRIALS, resources=CPU_ONLY)
    plan = plan_of(sweep)
    warm = run_steps(stage, plan, [list(plan.configs())])
    clock = Clock()
    with clock():
        run_whole(stage, sweep)
    overhead_s = overhead_per_trial(warm, slots_of(stage))
    return rows_of(theirs, num_shown, overhead_s, clock.seconds[0])


def run_pattern(folder: str, num_trials: int) -> dict[str, float]:
    """The pattern in a process and a Ray of its own, without raylab's switches."""
    config = TrialConfig.model_validate(TRIAL).model_dump(mode="json")
    job = {"config": config, "folder": folder, "classes": list(EMOTIONS)}
    given = {"job": job, "num_trials": num_trials}
    env = unswitched(os.environ)
    answer = run_alone("raylab.bench.pattern", given, env, TIMEOUT_S, "the documented pattern")
    if answer["error"]:
        raise CannotFinish(f"the documented pattern failed: {answer['error'][-300:]}")
    return {"wall_s": answer["wall_s"], "steps_s": answer["steps_s"]}


def unswitched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what raylab sets for Ray: the pattern runs as Ray ships."""
    ours = {*RAY_SWITCHES, "RAY_ADDRESS", "TUNE_DISABLE_SIGINT_HANDLER"}
    return {key: value for key, value in environment.items() if key not in ours}


def rows_of(
    theirs: Mapping[str, float], num_shown: int, overhead_s: float, whole_s: float
) -> list[Row]:
    """From both sides' seconds to the two rows."""
    their_overhead = (theirs["wall_s"] - theirs["steps_s"]) / num_shown
    their_wall = theirs["wall_s"] / num_shown * NUM_TRIALS
    overhead = their_overhead / overhead_s
    shown = f"{num_shown} trials of the pattern one after another, Ray being up, its steps' time"
    return [
        Row(
            "overhead per trial / documented pattern",
            overhead_s,
            "s",
            their_overhead,
            overhead,
            OVERHEAD,
            "ok" if OVERHEAD.holds(overhead) else "missed",
            f"{shown} taken off; raylab in warm slots, its epochs' time taken off; ratio = "
            "pattern / raylab",
        ),
        Row(
            "short trials / documented pattern",
            whole_s,
            "s",
            their_wall,
            their_wall / whole_s,
            WALL,
            "ok" if WALL.holds(their_wall / whole_s) else "missed",
            f"{NUM_TRIALS} trials of raylab, Ray being up, from reading the files to the last "
            "record, the start of the slots' processes included; "
            f"{num_shown} of the pattern scaled to as many; ratio = pattern / raylab",
        ),
    ]
