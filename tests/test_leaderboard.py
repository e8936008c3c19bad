"""The leaderboard: several sweeps as one, ranked honestly, shown as text in four formats."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raylab.config.identity import ADDED
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import differing_columns, ranked, read
from raylab.results.record import Record, Status, record_from
from raylab.results.table import render


def record(accuracy: float | None, status: Status = "complete", **fields: Any) -> Record:
    measured = {} if accuracy is None else {"val_accuracy": accuracy, "val_loss": 1 - accuracy}
    rows = [{"epoch": 1, "val_macro_f1": 0.4, "seconds": 1.5, **measured}]
    cause = {"error_kind": "DivergedError", "error": "nan"} if status == "failed" else {}
    config = TrialConfig(**fields)
    return record_from(config, "data", "split", rows, status, num_val=100, **cause)


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    results = ResultsDirectory(tmp_path / "aug")
    results.add(record(0.5, lr=0.1))
    results.add(record(0.9, lr=0.2, augment="light"))
    results.add(record(0.7, "pruned", lr=0.3))
    results.add(record(None, "failed", lr=0.4))
    results.flush()
    results.write_grid({"name": "aug"})
    return results.location


def test_best_comes_first_and_failed_last(sweep: str) -> None:
    board = ranked(read([sweep]))
    assert board["lr"].to_list() == [0.2, 0.3, 0.1, 0.4]
    assert board["rank"].to_list() == [1, 2, 3, 4]


def test_loss_ranks_upwards(sweep: str) -> None:
    assert ranked(read([sweep]), "val_loss")["lr"].to_list() == [0.2, 0.3, 0.1, 0.4]


def test_failed_trial_never_leads_whatever_it_had_measured(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(record(0.99, "failed", lr=0.4))
    results.add(record(0.2, lr=0.1))
    results.flush()
    assert ranked(read([str(tmp_path)]))["status"].to_list() == ["complete", "failed"]


def test_missing_measure_leaves_integers_integers(sweep: str) -> None:
    frame = read([sweep])
    assert frame["best_epoch"].dtype == pd.Int64Dtype()
    assert frame["best_epoch"].isna().sum() == 1


def test_unknown_column_is_refused_with_a_hint(sweep: str) -> None:
    with pytest.raises(Refused, match="did you mean val_accuracy"):
        ranked(read([sweep]), "val_acuracy")
    with pytest.raises(Refused, match="no numeric column"):
        ranked(read([sweep]), "model")


def test_missing_directories_are_refused_together(tmp_path: Path, sweep: str) -> None:
    with pytest.raises(Refused) as refused:
        read([sweep, str(tmp_path / "none"), str(tmp_path / "nothing")])
    assert len(refused.value.problems) == 2
    assert not (tmp_path / "none").exists()


def test_two_sweeps_are_one_frame(tmp_path: Path, sweep: str) -> None:
    other = ResultsDirectory(tmp_path / "models")
    other.add(record(0.6, model="cnn"))
    frame = read([sweep, other.location])
    assert frame["sweep"].to_list() == ["aug"] * 4 + ["models"]


def test_sweeps_of_one_name_are_told_apart_by_their_place(tmp_path: Path, sweep: str) -> None:
    other = ResultsDirectory(tmp_path / "again")
    other.add(record(0.6, model="cnn"))
    other.write_grid({"name": "aug"})
    assert set(read([sweep, other.location])["sweep"]) == {sweep, other.location}


def test_results_can_be_read_before_anything_was_gathered(tmp_path: Path, sweep: str) -> None:
    (Path(sweep) / "leaderboard.parquet").unlink()
    assert len(read([sweep])) == 4


def test_trials_from_before_a_field_was_there_have_its_default(tmp_path: Path, sweep: str) -> None:
    older = ResultsDirectory(tmp_path / "older")
    ours = record(0.6, lr=0.5)
    config = {name: value for name, value in ours.config.items() if name not in ADDED}
    older.add(dataclasses.replace(ours, config=config))
    older.flush()
    both = read([sweep, older.location])
    assert set(both["teacher_weight"]) == {0.5}
    assert differing_columns(both) == ["augment", "lr"]


def test_only_differing_fields_are_shown(sweep: str) -> None:
    assert differing_columns(read([sweep])) == ["augment", "lr"]


def test_table_shows_interval_rank_and_cause(sweep: str) -> None:
    lines = render(ranked(read([sweep]))).splitlines()
    assert "0.9000 [0.826, 0.945]" in lines[2]
    assert lines[2].split()[:3] == ["1", "light", "0.2"]
    assert lines[-1].endswith("failed: DivergedError")
    assert "pruned" in lines[3]


def test_top_says_how_many_it_hides(sweep: str) -> None:
    text = render(ranked(read([sweep])), top=1)
    assert "pruned" not in text
    assert text.endswith("… 3 more of 4 trials")


def test_json_and_csv_carry_every_column(sweep: str) -> None:
    frame = read([sweep])
    rows = json.loads(render(ranked(frame), "json"))
    assert rows[0]["val_accuracy"] == 0.9
    assert rows[3]["val_accuracy"] is None
    assert rows[0]["best_epoch"] == 1
    table = pd.read_csv(io.StringIO(render(ranked(frame), "csv")))
    assert set(table.columns) == set(rows[0]) == {"rank", *frame.columns}


def test_markdown_is_a_table_whose_cells_cannot_break_it(sweep: str) -> None:
    frame = read([sweep])
    frame.loc[0, "augment"] = "a|b"
    lines = render(ranked(frame), "markdown").splitlines()
    assert lines[1].replace("-", "").replace(":", "").strip("| ") == "" or "---" in lines[1]
    assert "a\\|b" in "\n".join(lines)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_metric_is_shown_when_it_is_not_there_anyway(sweep: str) -> None:
    assert "val_loss" in render(ranked(read([sweep])), metric="val_loss").splitlines()[0]
