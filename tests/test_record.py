"""Record: the best epoch's measures, honest about what was not measured, the same after JSON."""

import json
import math
from typing import Any

import pytest

from raylab.config import identity
from raylab.config.trial import TrialConfig
from raylab.results.intervals import wilson
from raylab.results.record import (
    LEADERBOARD_SCHEMA,
    Record,
    epochs_table,
    leaderboard_table,
    record_from,
)

CONTRACT = [
    "trial_id",
    "family_id",
    "status",
    "seed",
    "val_accuracy",
    "val_accuracy_low",
    "val_accuracy_high",
    "val_macro_f1",
    "val_loss",
    "train_loss",
    "best_epoch",
    "num_epochs",
    "num_train",
    "num_val",
    "seconds",
    "train_images_per_s",
    "num_workers",
    "device",
    "data_fingerprint",
    "split_fingerprint",
    "raylab_version",
    "git_sha",
    "started_at",
    "error_kind",
    "error",
]


def epoch(number: int, accuracy: float, loss: float = 1.0) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": loss,
        "train_accuracy": accuracy,
        "val_loss": loss,
        "val_accuracy": accuracy,
        "val_macro_f1": accuracy,
        "lr": 0.1,
        "seconds": 2.0,
        "train_images_per_s": 100.0,
    }


def record(epochs: list[dict[str, Any]], metric: str = "val_accuracy", **more: Any) -> Record:
    config = more.pop("config", TrialConfig())
    status = more.pop("status", "complete")
    return record_from(config, "data", "split", epochs, status, metric, num_val=100, **more)


def test_best_epoch_is_the_earlier_of_equals() -> None:
    made = record([epoch(1, 0.5), epoch(2, 0.7), epoch(3, 0.7), epoch(4, 0.6)])
    assert (made.best_epoch, made.val_accuracy, made.num_epochs) == (2, 0.7, 4)


def test_loss_is_minimised() -> None:
    made = record([epoch(1, 0.9, loss=3.0), epoch(2, 0.1, loss=1.0)], metric="val_loss")
    assert (made.best_epoch, made.val_loss, made.val_accuracy) == (2, 1.0, 0.1)


def test_metric_of_the_whole_trial_leaves_the_epoch_to_val_accuracy() -> None:
    assert record([epoch(1, 0.9), epoch(2, 0.5)], metric="seconds").best_epoch == 1


def test_interval_belongs_to_the_counts() -> None:
    made = record([epoch(1, 0.7)])
    assert (made.val_accuracy_low, made.val_accuracy_high) == wilson(70, 100)


def test_failed_trial_keeps_its_cause_and_measures_nothing() -> None:
    nan = {**epoch(1, 0.5), "val_accuracy": math.nan, "train_loss": math.inf}
    made = record([nan], status="failed", error_kind="DivergedError", error="loss became nan")
    assert made.val_accuracy is None
    assert made.best_epoch is None
    assert made.num_epochs == 1
    assert made.error_kind == "DivergedError"
    json.dumps(made.to_json(), allow_nan=False)


def test_json_gives_the_same_record() -> None:
    made = record([epoch(1, 0.5)], config=TrialConfig(train_layers=("layer4", "fc")))
    assert Record.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_record_from_before_a_field_existed_has_its_default() -> None:
    known = record([epoch(1, 0.5)])
    before = known.to_json()
    del before["config"]["interpolation"]
    assert Record.from_json(before).config == known.config


def test_key_of_a_later_version_is_passed_over() -> None:
    made = record([epoch(1, 0.5)])
    assert Record.from_json({**made.to_json(), "of_tomorrow": 1}) == made


@pytest.mark.parametrize("given", [None, [], {}, {"status": "complete"}, {"status": "odd"}])
def test_what_is_no_record_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="not a trial's record"):
        Record.from_json(given)


def test_leaderboard_has_the_columns_of_the_contract_even_without_rows() -> None:
    columns = leaderboard_table([]).column_names
    assert set(CONTRACT) | set(TrialConfig().flat()) <= set(columns)
    assert len(columns) == len(set(columns))
    assert epochs_table([]).num_rows == 0


def test_row_carries_identity_config_and_measures() -> None:
    config = TrialConfig(seed=3, augment="light", lr=0.01)  # type: ignore[arg-type]
    made = record([epoch(1, 0.5)], config=config, device="cpu", git_sha="abc")
    (row,) = leaderboard_table([made]).to_pylist()
    assert row["trial_id"] == identity.trial_id(config, "data")
    assert (row["seed"], row["augment"], row["lr"], row["split.train"]) == (3, "light", 0.01, 0.8)
    assert (row["num_val"], row["train_images_per_s"], row["seconds"]) == (100, 100.0, 2.0)


def test_column_types_do_not_depend_on_the_rows() -> None:
    failed = record([], status="failed", error_kind="E", error="e")
    assert leaderboard_table([failed]).schema.equals(LEADERBOARD_SCHEMA)


def test_one_epoch_row_per_trial_and_epoch() -> None:
    table = epochs_table([record([epoch(1, 0.5), epoch(2, 0.6)])])
    assert table["epoch"].to_pylist() == [1, 2]
    assert table["val_accuracy"].to_pylist() == [0.5, 0.6]


@pytest.mark.parametrize(("right", "tried"), [(0, 10), (10, 10), (5, 10), (870, 1000)])
def test_wilson_holds_the_share_and_stays_within_bounds(right: int, tried: int) -> None:
    low, high = wilson(right, tried)
    assert 0 <= low <= right / tried <= high <= 1
    assert high - low > 0


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_is_the_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
