"""Votes of several people: read from a manifest, learned as shares, never a metric."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_data import small_data

from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.source import Source, scan
from raylab.images.toy import write_folder
from raylab.images.votes import soft_labels
from raylab.sweep.plan import Plan
from raylab.training.loop import train
from raylab.training.worker import Collective, TrainingData

torch.set_num_threads(1)

HEADER = "path,label,votes_happy,votes_sad\n"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images; whose they are is for the manifests to say."""
    place = tmp_path_factory.mktemp("votes")
    write_folder(place / "faces", num=14, wrong=0.0, seed=0)
    for i, path in enumerate(sorted((place / "faces").rglob("*.png"))[:12]):
        path.rename(place / f"{i}.png")
    return place


def manifest(place: Path, text: str) -> Source:
    path = place / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return scan(str(path))


def rows_of(source: Source) -> dict[str, tuple[str, list[float] | None]]:
    names = ("path", "label", "votes")
    table = source.table.select(names).to_pylist()
    return {row["path"]: (row["label"], row["votes"]) for row in table}


def refusal(place: Path, text: str) -> str:
    with pytest.raises(Refused) as caught:
        manifest(place, text)
    return str(caught.value)


def test_votes_stand_beside_the_label_in_the_order_of_the_classes(faces: Path) -> None:
    text = HEADER.replace("happy,votes_sad", "sad,votes_happy")
    source = manifest(faces, f"{text}0.png,Happy,1,9\n1.png,Sad,8,2\n2.png,Sad,,\n")
    assert source.classes == ("Happy", "Sad")
    assert rows_of(source) == {
        "0.png": ("Happy", [9.0, 1.0]),
        "1.png": ("Sad", [2.0, 8.0]),
        "2.png": ("Sad", None),
    }
    assert source.has_votes


def test_without_a_label_most_votes_are_the_label_and_the_first_column_of_equals(
    faces: Path,
) -> None:
    source = manifest(faces, "path,votes_sad,votes_happy\n0.png,3,7\n1.png,5,5\n2.png,0.9,0.1\n")
    assert {path: label for path, (label, _) in rows_of(source).items()} == {
        "0.png": "happy",
        "1.png": "sad",
        "2.png": "sad",
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("0.png,happy,1,-1\n1.png,sad,0,1\n", "csv:2  votes_sad: '-1' is no number of votes"),
        ("0.png,happy,1,x\n1.png,sad,0,1\n", "votes_sad: 'x' is no number"),
        ("0.png,happy,nan,0\n1.png,sad,0,1\n", "votes_happy: 'nan' is no number"),
        ("0.png,,0,0\n1.png,sad,0,1\n", "csv:2  label is empty, and nobody voted"),
        ("0.png,happy,1,1\n1.png,angry,0,1\n", "votes_sad: no image has this label"),
    ],
)
def test_votes_that_make_no_sense_are_refused_with_their_line(
    faces: Path, rows: str, said: str
) -> None:
    assert said in refusal(faces, HEADER + rows)


def test_gaps_in_columns_of_floats_are_no_votes(faces: Path) -> None:
    nan = float("nan")
    votes = {"votes_happy": [3.0, nan, nan], "votes_sad": [nan, 2.0, nan]}
    paths = {"path": ["0.png", "1.png", "2.png"], "label": ["happy", "sad", "sad"]}
    pq.write_table(pa.table(paths | votes), faces / "gaps.parquet")
    source = scan(str(faces / "gaps.parquet"))
    assert source.table["votes"].to_pylist() == [[3.0, 0.0], [0.0, 2.0], None]


def test_votes_are_part_of_the_datas_fingerprint_and_their_absence_is_not(faces: Path) -> None:
    rows = "0.png,happy,{},1\n1.png,sad,0,1\n"
    prints = {manifest(faces, HEADER + rows.format(n)).fingerprint for n in (1, 2)}
    plain = manifest(faces, "path,label\n0.png,happy\n1.png,sad\n").fingerprint
    empty = manifest(faces, HEADER + "0.png,happy,,\n1.png,sad,,\n").fingerprint
    assert len(prints) == 2
    assert plain == empty
    assert plain not in prints


def test_shares_add_up_and_whoever_was_not_voted_on_is_sure(faces: Path) -> None:
    source = manifest(faces, HEADER + "0.png,happy,3,1\n1.png,sad,,\n2.png,sad,5,5\n")
    labels = np.array([0, 1, 1])
    soft = soft_labels(source.table.sort_by("path"), labels, 2)
    assert soft.tolist() == [[0.75, 0.25], [0, 1], [0.5, 0.5]]
    assert soft_labels(source.table.drop_columns("votes"), labels, 2) is None


def test_soft_labels_of_a_source_without_votes_are_refused(faces: Path) -> None:
    trial = {"soft_labels": True, "split": {"train": 0.5}}
    sweep = SweepConfig(name="x", data="x", trial=trial)
    with pytest.raises(Refused, match="has no votes"):
        next(Plan(sweep, scan("toy:num=100")).configs())
    rows = "".join(f"{i}.png,{('happy', 'sad')[i % 2]},3,1\n" for i in range(12))
    voted = manifest(faces, HEADER + rows)
    assert next(Plan(sweep, voted).configs()).soft_labels


def train_on(soft: np.ndarray | None, **fields: object) -> list[tuple[float, float]]:
    data = small_data()
    data = TrainingData(
        data.images, data.labels, data.train_rows, data.val_rows, data.classes, None, soft
    )
    base = {"model": "cnn", "image_size": 16, "epochs": 1, "batch_size": 16, "amp": "none"}
    config = TrialConfig.model_validate(base | fields)
    outcome = train(config, data, torch.device("cpu"), Collective(), lambda row, state: None)
    return [(row.train_loss, row.val_loss) for row in outcome.epochs]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mixup": 0.4},
        {"loss": "focal", "label_smoothing": 0.1},
        {"loss": "gce"},
        {"class_weights": "balanced"},
    ],
    ids=str,
)
def test_unanimous_votes_teach_what_labels_teach_and_others_do_not(
    fields: dict[str, object],
) -> None:
    sure = np.eye(4, dtype=np.float32)[small_data().labels]
    hard, soft = train_on(None, **fields), train_on(sure, **fields)
    assert np.allclose(hard, soft, rtol=1e-3)
    unsure = train_on(sure * 0.6 + 0.1, **fields)
    assert not np.allclose(hard[-1][0], unsure[-1][0], rtol=1e-2)


def test_votes_do_not_reach_the_validation() -> None:
    sure = np.eye(4, dtype=np.float32)[small_data().labels]
    torn = sure.copy()
    torn[small_data().val_rows] = 0.25
    assert train_on(sure) == train_on(torn)
