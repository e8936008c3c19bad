"""ResultsDirectory: nothing that finished is lost; the leaderboard can be read at any moment."""

import logging
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, Status, record_from


def record(seed: int, status: Status = "complete", accuracy: float = 0.5) -> Record:
    epochs = [{"epoch": 1, "val_accuracy": accuracy, "val_macro_f1": 0.4, "val_loss": 1.0}]
    config = TrialConfig(seed=seed)
    return record_from(
        config, "data", "split", epochs, status, started_at=f"2026-01-{seed + 1:02d}"
    )


class Clock:
    """Each look at it takes one second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def test_record_is_on_the_leaderboard_at_once(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(record(0))
    assert pq.read_table(tmp_path / "leaderboard.parquet").num_rows == 1
    assert pq.read_table(tmp_path / "epochs.parquet").num_rows == 1


def test_tables_are_gathered_when_they_have_grown_by_a_quarter(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path, Clock())
    gathered = []
    for seed in range(10):
        results.add(record(seed))
        gathered.append(pq.read_table(tmp_path / "leaderboard.parquet").num_rows)
    # Gathering takes 1 s by this clock, so that time alone would allow the next 99 s later.
    assert gathered == [1, 2, 3, 4, 5, 5, 7, 7, 9, 9]
    assert results.leaderboard().num_rows == results.epochs().num_rows == 10
    results.flush()
    assert pq.read_table(tmp_path / "leaderboard.parquet").num_rows == 10


def test_tables_are_gathered_at_once_where_trials_end_slowly(tmp_path: Path) -> None:
    clock = Clock()
    results = ResultsDirectory(tmp_path, clock)
    for seed in range(10):
        results.add(record(seed))
        clock.now_s += 100
        assert pq.read_table(tmp_path / "leaderboard.parquet").num_rows == seed + 1


def test_tables_of_an_earlier_raylab_are_read_on(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(record(0))
    for name in ("leaderboard.parquet", "epochs.parquet"):
        table = pq.read_table(tmp_path / name).drop_columns(["lr"])
        pq.write_table(table.replace_schema_metadata(None), tmp_path / name)
    results = ResultsDirectory(tmp_path)
    results.add(record(1))
    results.flush()
    assert pq.read_table(tmp_path / "leaderboard.parquet")["lr"].to_pylist() == [0.001, 0.001]
    assert pq.read_table(tmp_path / "epochs.parquet")["val_loss"].to_pylist() == [1.0, 1.0]


def test_next_run_finds_and_gathers_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = ResultsDirectory(tmp_path, Clock())
    for seed in range(3):
        killed.add(record(seed))
    resumed = ResultsDirectory(tmp_path)
    assert resumed.finished_ids() == {record(seed).trial_id for seed in range(3)}
    resumed.flush()
    assert pq.read_table(tmp_path / "leaderboard.parquet").num_rows == 3
    assert resumed.epochs().num_rows == 3


def test_failed_trials_count_as_finished_unless_they_are_to_be_retried(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    for seed, status in enumerate(("complete", "pruned", "failed")):
        results.add(record(seed, status))
    assert len(results.finished_ids()) == 3
    assert record(2).trial_id not in results.finished_ids(with_failed=False)
    assert len(results.finished_ids(with_failed=False)) == 2


def test_retried_trial_replaces_its_failed_record(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(record(0, "failed"))
    results.add(record(0, "complete"))
    results.flush()
    assert pq.read_table(tmp_path / "leaderboard.parquet")["status"].to_pylist() == ["complete"]


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff\xfe", b"[]"])
def test_torn_record_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, torn: bytes
) -> None:
    ResultsDirectory(tmp_path).add(record(0))
    (tmp_path / "records" / "0123456789ab.json").write_bytes(torn)
    with caplog.at_level(logging.WARNING):
        records = ResultsDirectory(tmp_path).records()
    assert records == (record(0),)
    assert "0123456789ab.json is damaged" in caplog.text


def test_no_trial_yet_is_an_empty_leaderboard(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.flush()
    table = pq.read_table(tmp_path / "leaderboard.parquet")
    assert table.num_rows == 0
    assert "val_accuracy" in table.column_names


def test_predictions_have_one_column_per_class(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    results.write_predictions("abc", ["i1", "i2"], ["기쁨", "슬픔"], probs, ["기쁨", "슬픔"])
    table = results.predictions("abc")
    assert table.column_names == ["image_id", "label", "p_기쁨", "p_슬픔"]
    assert table.schema.field("p_기쁨").type == pa.float32()
    assert math.isclose(table["p_슬픔"].to_pylist()[1], 0.8, rel_tol=1e-6)


def test_checkpoints_are_listed_and_deleted(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    for trial_id in ("abc", "def"):
        for name in ("model.safetensors", "model.json"):
            results.checkpoint(trial_id).write_bytes(name, b"w")
    results.checkpoint("123").write_bytes("model.safetensors", b"w")  # killed before the other
    results.folder.write_bytes("checkpoints/.DS_Store", b"")
    assert results.checkpoint_ids() == {"abc", "def"}
    results.delete_checkpoint("abc")
    assert results.checkpoint_ids() == {"def"}


def test_a_state_is_kept_in_place_of_the_last_one_until_its_trial_has_ended(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    assert (results.state("abc"), results.state_ids()) == (None, frozenset())
    for content in (b"epoch 1", b"epoch 2"):
        results.write_state("abc", content)
    assert results.state("abc") == b"epoch 2"
    assert results.state_ids() == {"abc"}
    results.delete_state("abc")
    assert results.state("abc") is None


def test_grid_environment_split_and_log_can_be_read_back(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    split = pa.table({"image_id": ["a"], "split": ["train"]})
    results.write_grid({"name": "aug", "axes": {"lr": [0.1]}, "data": "얼굴"})
    results.write_environment({"ray": "2.60"})
    results.write_split("f00", split)
    assert results.grid() == {"name": "aug", "axes": {"lr": [0.1]}, "data": "얼굴"}
    assert results.environment() == {"ray": "2.60"}
    assert results.has_split("f00")
    assert results.split("f00").equals(split)
    assert Path(results.write_log("abc", "why")).read_text() == "why"
