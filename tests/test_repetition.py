"""A repetition's verdict: bit for bit where it must be, within the seeds' spread elsewhere."""

import math
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from raylab.config.trial import TrialConfig
from raylab.results.record import Record, record_from
from raylab.results.repetition import Repetition, compare

HERE = {"raylab": "1", "code": "a", "cpu": "x", "packages": {"torch": "2.5"}, "git_sha": "1"}
PREDICTIONS = pa.table(
    {"image_id": ["a", "b"], "label": ["sad", "sad"], "p_sad": [0.7, 0.4], "p_happy": [0.3, 0.6]}
)


def ended(accuracy: float, seed: int = 0, **facts: Any) -> Record:
    epochs = [
        {
            "epoch": n,
            "train_loss": 0.5,
            "train_accuracy": 0.5,
            "val_loss": 0.7,
            "val_accuracy": value,
            "val_macro_f1": value,
            "lr": 0.1,
        }
        for n, value in enumerate((0.1, accuracy), start=1)
    ]
    config = TrialConfig(epochs=2, seed=seed)
    return record_from(config, "data", "split", epochs, "complete", num_val=100, **facts)


def repeated(
    then: Record,
    now: Record,
    there: dict[str, Any] = HERE,
    predictions: pa.Table | None = PREDICTIONS,
    family: tuple[Record, ...] = (),
) -> Repetition:
    return compare(then, now, (HERE, there), (predictions, PREDICTIONS), family)


def test_equal_bits_are_the_same_wherever_they_come_from() -> None:
    assert repeated(ended(0.5), ended(0.5)).verdict == "same"
    elsewhere = repeated(ended(0.5), ended(0.5), {**HERE, "cpu": "y"})
    assert elsewhere.verdict == "same"
    assert elsewhere.differs == {"cpu": ("x", "y")}


def test_on_the_same_cpu_and_code_one_bit_is_a_mismatch() -> None:
    found = repeated(ended(0.3), ended(0.1 + 0.2), family=(ended(0.9, 1),))
    assert found.bits_expected
    assert found.verdict == "mismatch"
    assert found.first_difference is not None
    assert "epoch 2: val_accuracy 0.3 then" in found.first_difference


def test_predictions_count_as_much_as_metrics() -> None:
    other = PREDICTIONS.set_column(2, "p_sad", pa.array([0.7, 0.41]))
    found = repeated(ended(0.5), ended(0.5), predictions=other)
    assert found.verdict == "mismatch"
    assert found.first_difference == "predictions: probabilities differ by up to 0.01"


def test_predictions_that_were_deleted_leave_the_metrics_to_tell() -> None:
    assert repeated(ended(0.5), ended(0.5), predictions=None).verdict == "same"


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.6, "within spread"), (0.7, "mismatch")])
def test_elsewhere_it_may_differ_as_seeds_do(accuracy: float, verdict: str) -> None:
    family = (ended(0.52, 1), ended(0.48, 2))
    there = {**HERE, "packages": {"torch": "2.6"}}
    found = repeated(ended(0.5), ended(accuracy), there, family=family)
    assert found.spread.std == pytest.approx(0.02)
    assert found.spread.source == "std over 3 seeds"
    assert found.spread.limit == pytest.approx(4.303 * math.sqrt(2) * 0.02, abs=1e-4)
    assert found.verdict == verdict
    assert found.differs == {"torch": ("2.5", "2.6")}


def test_a_gpu_is_not_held_to_the_last_bit() -> None:
    found = repeated(ended(0.5, device="H100"), ended(0.51, device="H100"))
    assert not found.bits_expected
    assert found.verdict == "within spread"


def test_a_single_seed_is_said_and_the_binomial_error_stands_in() -> None:
    found = repeated(ended(0.5), ended(0.5))
    assert found.spread.std == pytest.approx(0.05)
    assert "one seed only" in found.spread.source


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_seeds_that_happen_to_agree_leave_room_for_one_image(share: float) -> None:
    """A GPU adds up in no fixed order: one image of a hundred may tip."""
    then, tipped = ended(share, device="H100"), ended(share - 0.01, device="H100")
    found = repeated(then, tipped, family=(ended(share, 1),))
    assert found.verdict == "within spread"
    assert "its 2 seeds agree to the last image" in found.spread.source
    lost = repeated(then, ended(share - 0.2, device="H100"), family=(ended(share, 1),))
    assert lost.verdict == "mismatch"


def test_other_device_workers_and_precision_are_named() -> None:
    now = replace(ended(0.5), device="H100", num_workers=2, precision="bfloat16")
    found = repeated(ended(0.5), now)
    assert set(found.differs) == {"device", "num_workers", "precision"}


def test_the_commit_of_the_folder_is_no_reason() -> None:
    assert repeated(ended(0.5), ended(0.5), {**HERE, "git_sha": "2"}).differs == {}
