"""The dead-axis alarm: it names the one field that changes nothing, once, and no live one."""

from pathlib import Path
from typing import Any

import pytest
from finished_sweep import GRID

from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.results.record import Record, Status, record_from
from raylab.sweep.alarm import DeadAxes
from raylab.sweep.runner import Options, run_sweep


def ended(
    *accuracies: float, status: Status = "complete", data: str = "data", **fields: Any
) -> Record:
    epochs = [
        {
            "epoch": number,
            "train_loss": 1 / number,
            "train_accuracy": 0.5,
            "val_loss": 1.5 / number,
            "val_accuracy": accuracy,
            "val_macro_f1": accuracy,
            "lr": fields.get("lr", 1e-3),
            "seconds": accuracy * 7,
        }
        for number, accuracy in enumerate(accuracies, start=1)
    ]
    config = TrialConfig.model_validate({"epochs": max(1, len(epochs)), **fields})
    return record_from(config, data, "split", epochs, status)


def keys(*records: Record) -> list[str]:
    axes = DeadAxes()
    return [alarm.key for record in records for alarm in axes.hear(record)]


def test_two_trials_alike_but_in_one_field_name_it() -> None:
    first, second = ended(0.1 + 0.2, 0.5, lr=1e-2), ended(0.1 + 0.2, 0.5, lr=1e-3)
    axes = DeadAxes()
    assert axes.hear(first) == []
    (alarm,) = axes.hear(second)
    assert alarm.key == "lr"
    for part in ("lr", "0.01", "0.001", first.trial_id, second.trial_id):
        assert part in str(alarm)


def test_one_bit_of_one_epoch_keeps_it_silent() -> None:
    assert keys(ended(0.3, 0.5, lr=1e-2), ended(0.1 + 0.2, 0.5, lr=1e-3)) == []


def test_two_fields_at_once_prove_nothing() -> None:
    assert keys(ended(0.3, lr=1e-2, mixup=0.1), ended(0.3, lr=1e-3, mixup=0.2)) == []


def test_every_key_is_named_once() -> None:
    crossed = [ended(0.3, lr=lr, mixup=m) for lr in (1e-2, 1e-3, 1e-4) for m in (0.1, 0.2)]
    assert sorted(keys(*crossed)) == ["lr", "mixup"]


def test_a_seed_without_effect_is_alarming_too() -> None:
    assert keys(ended(0.3, seed=0), ended(0.3, seed=1)) == ["seed"]


def test_fractions_of_a_split_move_together_and_count_as_one_field() -> None:
    splits = [{"train": train, "test": 0.1} for train in (0.6, 0.7)]
    assert keys(*(ended(0.3, split=split) for split in splits)) == ["split.train, split.val"]


def test_trials_that_did_not_end_well_or_saw_other_images_are_no_evidence() -> None:
    assert keys(ended(0.3, status="pruned"), ended(0.3, status="pruned", lr=1e-2)) == []
    assert keys(ended(status="failed"), ended(status="failed", lr=1e-2)) == []
    assert keys(ended(0.3, data="a"), ended(0.3, data="b", lr=1e-2)) == []


def test_a_trial_that_is_recorded_again_is_no_second_trial() -> None:
    assert keys(ended(0.3), ended(0.3)) == []


@pytest.mark.slow
def test_a_sweep_says_so_while_it_runs(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In two epochs `plateau` has no time to lower the rate that `constant` keeps.
    monkeypatch.setenv("RAYLAB_CACHE", str(finished / "cache"))
    grid = finished / "dead.yaml"
    axes = "axes: {lr_schedule: [constant, plateau], lr: [1.0e-2, 1.0e-3]}"
    kept = [line for line in GRID.splitlines() if not line.startswith(("axes", "seeds"))]
    grid.write_text("\n".join([*kept, axes]))
    for _ in range(2):  # a resume says it again
        run_sweep(read_grid(grid), Options(str(tmp_path / "results")))
        warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
        assert len(warnings) == 1
        assert "lr_schedule changes nothing: " in warnings[0]
