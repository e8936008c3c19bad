"""Suspects leave the training side alone, and votes teach: in whole sweeps and at the end."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_sweep import write_faces

from raylab.after.final import FinalOptions, run_final
from raylab.config.grid import read_grid
from raylab.config.identity import trial_id
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.source import scan
from raylab.images.suspects import suspect_ids, unsuspected
from raylab.results.directory import ResultsDirectory
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Options, run_sweep

GRID = """
name: levers
data: faces.csv
trial: {model: cnn, image_size: 16, channels: 1, epochs: 1, batch_size: 32, amp: none}
levers: [{soft_labels: true}, {drop_suspects: suspects.parquet}]
"""


def write_suspects(place: Path, ids: list[str]) -> Path:
    pq.write_table(
        pa.table({"image_id": ids, "given": ["x"] * len(ids)}), place / "suspects.parquet"
    )
    return place / "suspects.parquet"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """faces.csv with votes, and suspects.parquet: five images each of train, val and elsewhere."""
    place = tmp_path_factory.mktemp("suspects")
    rows = write_faces(place)
    classes = sorted({row["label"] for row in rows})
    for row in rows:
        row |= {f"votes_{name}": str(8 if name == row["label"] else 1) for name in classes}
    with (place / "faces.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = scan(str(place / "faces.csv")).table
    sides = np.array(table["given_split"].to_pylist())
    ids = np.array(table["image_id"].to_pylist())
    chosen = [*ids[sides == "train"][:5], *ids[sides == "val"][:5], "of another source"]
    write_suspects(place, chosen)
    (place / "grid.yaml").write_text(GRID)
    return place


def test_ids_are_read_and_every_other_file_is_refused(place: Path, tmp_path: Path) -> None:
    path = str(place / "suspects.parquet")
    assert len(suspect_ids(path)) == 11
    with pytest.raises(ValueError, match="its content has changed"):
        suspect_ids(path, "0" * 16)
    with pytest.raises(ValueError, match="does not exist"):
        suspect_ids(str(tmp_path / "nowhere.parquet"))
    with pytest.raises(ValueError, match="no Parquet file with a column image_id"):
        suspect_ids(str(place / "faces.csv"))
    pq.write_table(pa.table({"other": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no Parquet file with a column image_id"):
        suspect_ids(str(tmp_path / "other.parquet"))


def test_suspects_that_would_drop_nothing_are_an_error(tmp_path: Path) -> None:
    path = write_suspects(tmp_path, ["c"])
    config = TrialConfig(drop_suspects=str(path))
    assert unsuspected(np.array([0, 2]), ["a", "b", "c"], config).tolist() == [0]
    with pytest.raises(ValueError, match="none of the 1 images"):
        unsuspected(np.array([0, 1]), ["a", "b", "c"], config)


def test_the_content_of_the_file_is_part_of_the_identity(place: Path, tmp_path: Path) -> None:
    source, found = scan(str(place / "faces.csv")), []
    for ids in (["a"], ["b"], ["a"]):
        path = write_suspects(tmp_path, ids)
        sweep = read_grid(
            place / "grid.yaml", overrides=[f"trial.drop_suspects={path}", "levers=[]"]
        )
        (config,) = Plan(sweep, source).configs()
        assert len(config.drop_suspects_digest) == 16
        found.append(trial_id(config, source.fingerprint))
    assert found[0] == found[2] != found[1]
    other = read_grid(
        place / "grid.yaml",
        overrides=[
            f"trial.drop_suspects={path}",
            "trial.drop_suspects_digest=0123456789abcdef",
            "levers=[]",
        ],
    )
    with pytest.raises(Refused, match="its content has changed"):
        next(Plan(other, source).configs())


@pytest.fixture(scope="module")
def results(place: Path, ray_local: None) -> ResultsDirectory:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(place / "cache"))
        outcomes = run_sweep(
            read_grid(place / "grid.yaml"), Options(str(place / "results"), quiet=True)
        )
    assert [record.error for record in outcomes.records] == [None] * 3
    return ResultsDirectory(place / "results")


@pytest.mark.slow
def test_in_a_sweep_suspects_do_not_train_and_validate_as_before(results: ResultsDirectory) -> None:
    records = {
        (r.config["soft_labels"], r.config["drop_suspects"] != ""): r for r in results.records()
    }
    base, soft, dropped = records[False, False], records[True, False], records[False, True]
    assert base.num_train is not None
    assert dropped.num_train == base.num_train - 5
    assert soft.num_train == base.num_train
    assert dropped.num_val == soft.num_val == base.num_val
    assert dropped.split_fingerprint == base.split_fingerprint
    ids = [results.predictions(r.trial_id)["image_id"].to_pylist() for r in (base, soft, dropped)]
    assert ids[0] == ids[1] == ids[2]
    assert len({base.train_loss, soft.train_loss, dropped.train_loss}) == 3


@pytest.mark.slow
def test_final_drops_them_from_all_that_trains_and_weighs_its_ensemble(
    results: ResultsDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(place / "cache"))
    each = run_final(FinalOptions(results.location, top=3, quiet=True))
    num_train = {
        bool(model["config"]["drop_suspects"]): model["num_train"] for model in each["models"]
    }
    assert num_train[True] == num_train[False] - 10  # what validated in the sweep trains here
    both = run_final(FinalOptions(results.location, ensemble=3, again=True, quiet=True))
    weights = [model["weight"] for model in both["models"]]
    assert sum(weights) == pytest.approx(1)
    assert 1 <= len(weights) <= 3
    probs = {model["trial_id"]: model["rank"] for model in both["models"]}
    assert set(probs) <= {model["trial_id"] for model in each["models"]}
