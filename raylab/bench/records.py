"""Results directories of many invented trials, written through the classes that own their files."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from raylab.config.trial import TrialConfig
from raylab.results.directory import LEADERBOARD, ResultsDirectory
from raylab.results.record import Record, leaderboard_table, record_from

TIMED = 1000
PATTERN = 1000


def invented(num: int) -> Iterator[Record]:
    """Complete trials of two epochs that differ in their seed and accuracy."""
    config = TrialConfig(model="cnn", epochs=2)
    for seed in range(num):
        accuracy = 0.4 + 0.2 * ((seed * 7919) % 1000) / 1000
        epochs = [
            {
                "epoch": epoch,
                "train_loss": 1.5,
                "train_accuracy": accuracy,
                "val_loss": 1.4,
                "val_accuracy": accuracy,
                "val_macro_f1": accuracy - 0.05,
                "lr": 1e-3,
                "seconds": 1.0,
                "train_images_per_s": 900.0,
            }
            for epoch in (1, 2)
        ]
        yield record_from(
            config.model_copy(update={"seed": seed}),
            "0123456789abcdef",
            "fedcba9876543210",
            epochs,
            "complete",
            num_train=1000,
            num_val=280,
            seconds=2.1,
            started_at="2025-01-01T00:00:00.000+00:00",
        )


def write_records(place: Path, num: int) -> tuple[float, float]:
    """Adds `num` records one by one; the mean seconds of an add among the first and the last."""
    results = ResultsDirectory(str(place))
    seconds = np.zeros(num)
    for i, record in enumerate(invented(num)):
        began = time.perf_counter()
        results.add(record)
        seconds[i] = time.perf_counter() - began
    results.flush()
    timed = min(TIMED, num // 2)
    return float(seconds[:timed].mean()), float(seconds[-timed:].mean())


def write_tables(place: Path, num: int) -> None:
    """A gathered leaderboard of `num` rows: a thousand trials over and over under new ids."""
    pattern = leaderboard_table(invented(PATTERN))
    table = pa.concat_tables([pattern] * (num // PATTERN))
    ids = pa.array([f"{i:012x}" for i in range(table.num_rows)])
    column = table.column_names.index("trial_id")
    table = table.set_column(column, "trial_id", ids)
    ResultsDirectory(str(place)).folder.write_table(LEADERBOARD, table)
