"""ASHA against the full grid: the config it finds, and the share of the epochs it runs."""

from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

from raylab.bench.row import Row, at_most, judged
from raylab.bench.stage import Stage
from raylab.bench.trials import CPU_ONLY, run_whole, sweep_of
from raylab.bench.watch import Seen
from raylab.config.sweep import Scheduler
from raylab.results.record import Record

TRIAL = {
    "model": "cnn",
    "image_size": 32,
    "channels": 1,
    "split": {"train": 0.55, "val": 0.4, "test": 0.05},
}
AXES: dict[str, tuple[Any, ...]] = {
    "lr": (1e-4, 1e-3, 1e-2),
    "augment": ("none", "light", "strong"),
    "batch_size": (32, 128, 512),
}
SPREAD_SEEDS = 3
POINTS = 0.5
EPOCHS = at_most(0.35)


def measure(stage: Stage) -> list[Row]:
    """The grid of 27, ASHA over it, and the grid's best config again under other seeds."""
    epochs, data = (3, "toy:num=300") if stage.quick else (12, "toy:num=1800")
    trial = {**TRIAL, "epochs": epochs}
    stage.note("asha: the full grid of 27 configs")
    grid = records_of(
        run_whole(stage, sweep_of("bench-grid", data, trial, axes=AXES, resources=CPU_ONLY))
    )
    stage.note("asha: the same under ASHA")
    scheduler = Scheduler(kind="asha", grace_epochs=1, reduction_factor=2)
    asha = records_of(
        run_whole(
            stage,
            sweep_of("bench-asha", data, trial, axes=AXES, scheduler=scheduler, resources=CPU_ONLY),
        )
    )
    stage.note("asha: the seed spread of the grid's best config")
    best = best_of(grid)
    fields = {name: best.config[name] for name in AXES}
    again = sweep_of(
        "bench-seeds", data, {**trial, **fields}, seeds=SPREAD_SEEDS, resources=CPU_ONLY
    )
    seeds = [accuracy(record) for record in records_of(run_whole(stage, again))]
    return rows_of(grid, asha, seeds)


def rows_of(grid: list[Record], asha: list[Record], seeds: list[float]) -> list[Row]:
    """From the records of both to what ASHA found and what it spent."""
    full = {record.trial_id: accuracy(record) for record in grid}
    best, found = max(full.values()), full[best_of(asha).trial_id]
    spent = sum(record.num_epochs for record in asha)
    whole = sum(record.num_epochs for record in grid)
    spread = stdev(seeds)
    limit = at_most(max(POINTS, round(spread, 2)))
    how = (
        f"accuracy that ASHA's best config has in the full grid ({found:.2f} %) below the grid's "
        f"best ({best:.2f} %); seed spread of that: {spread:.2f} points around {mean(seeds):.2f}"
    )
    share = Row(
        "ASHA, epochs run",
        spent,
        "epochs",
        whole,
        spent / whole,
        EPOCHS,
        "ok" if EPOCHS.holds(spent / whole) else "missed",
        f"{len(grid)} configs, reduction factor 2, one epoch of grace; ratio = ASHA / full grid",
    )
    return [judged("ASHA, points lost", best - found, "points", limit, how), share]


def best_of(records: Iterable[Record]) -> Record:
    """The best by validation accuracy; of equals the one with the later id."""
    return max(records, key=lambda record: (accuracy(record), record.trial_id))


def accuracy(record: Record) -> float:
    """In percent."""
    return 100 * (record.val_accuracy or 0.0)


def records_of(seen: Iterable[Seen]) -> list[Record]:
    """The records of trials that ended."""
    return [trial.record for trial in seen if trial.record is not None]
