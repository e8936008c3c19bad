"""`raylab audit` on folders with every known fault planted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import fs
from typer.testing import CliRunner, Result

from raylab import storage
from raylab.cli import app
from raylab.commands.audit import audit_text
from raylab.images.audit import Audit, audit
from raylab.images.source import scan
from raylab.images.toy import draw_face

RNG = np.random.default_rng(7)
FACES = [Image.fromarray(draw_face(("happy", "sad")[i % 2], RNG)).convert("L") for i in range(12)]


def raylab(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def save(image: Image.Image, path: Path, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for i, face in enumerate(FACES):
        save(face, tmp_path / "faces" / ("happy", "sad")[i % 2] / f"{i}.png")
    return tmp_path / "faces"


def rows_of(found: Audit) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in found.table.to_pylist()}


def test_a_clean_source_has_nothing_wrong(clean: Path) -> None:
    summary = audit(scan(str(clean))).summary()
    assert summary["wrong"] == []
    assert (summary["images"], summary["distinct"]) == (12, 12)
    assert summary["classes"] == {"happy": 6, "sad": 6}
    assert summary["modes"] == {"L": 12}
    assert summary["sizes"]["common"] == {"64x64": 12}


def test_copies_are_found_by_decoded_pixels_and_conflict_by_label(clean: Path) -> None:
    save(FACES[0], clean / "happy" / "same.bmp")
    save(FACES[2].convert("RGB"), clean / "sad" / "grey as colour.png")
    found = audit(scan(str(clean)))
    rows = rows_of(found)
    first, same = rows["happy/0.png"], rows["happy/same.bmp"]
    assert first["sha256"] != same["sha256"]
    assert first["pixel_sha256"] == same["pixel_sha256"]
    assert first["duplicate_group"] == same["duplicate_group"] is not None
    assert not first["conflict"]
    assert rows["happy/2.png"]["conflict"]
    assert rows["sad/grey as colour.png"]["conflict"]
    assert rows["sad/1.png"]["duplicate_group"] is None
    summary = found.summary()
    assert (summary["duplicates"], summary["duplicate_groups"]) == (4, 2)
    assert (summary["conflicting"], summary["conflicting_groups"]) == (2, 1)
    assert summary["near_duplicates"] == 0  # identical copies are no near-copies


def test_copies_of_other_bytes_are_told_apart_as_a_sweep_does(clean: Path) -> None:
    shutil.copy(clean / "happy" / "0.png", clean / "happy" / "copied.png")
    save(FACES[1], clean / "sad" / "anew.bmp")
    found = audit(scan(str(clean)))
    rows = rows_of(found)
    assert [rows[name]["recoded"] for name in ("happy/copied.png", "sad/anew.bmp")] == [False, True]
    summary = found.summary()
    assert (summary["duplicates"], summary["recoded"]) == (4, 2)
    told = next(line for line in audit_text(summary).splitlines() if "other bytes" in line)
    assert told.endswith("2   a sweep takes them for different images")


def test_persons_on_several_given_sides_are_wrong(clean: Path, tmp_path: Path) -> None:
    rows = [
        f"faces/{'happy' if i % 2 == 0 else 'sad'}/{i}.png,{'ab'[i % 2]},S{i // 3},{side}"
        for i, side in enumerate(["train", "train", "val"] * 2 + ["val"] * 3)
    ]
    (tmp_path / "m.csv").write_text("path,label,group,split\n" + "\n".join(rows))
    found = audit(scan(str(tmp_path / "m.csv")))
    leaking = {Path(name).stem for name, row in rows_of(found).items() if row["group_leak"]}
    assert leaking == set("012345")
    summary = found.summary()
    assert (summary["group_leaking"], summary["group_leaking_groups"]) == (6, 2)
    assert summary["wrong"] == ["group_leaking", "group_leaking_groups"]
    assert "6   in 2 groups" in audit_text(summary)


def test_a_mirrored_jpeg_under_another_label_is_a_near_conflict(clean: Path) -> None:
    turned = FACES[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    save(turned, clean / "sad" / "turned.jpg", quality=80)
    rows = rows_of(audit(scan(str(clean))))
    one, other = rows["happy/0.png"], rows["sad/turned.jpg"]
    assert one["near_group"] == other["near_group"] is not None
    assert one["near_image_id"] == other["image_id"]
    assert other["near_image_id"] == one["image_id"]
    assert other["mirrored"]
    assert other["near_correlation"] > 0.96
    assert one["near_conflict"]
    assert not one["conflict"]


def test_copies_across_given_splits_leak(tmp_path: Path) -> None:
    for i, face in enumerate(FACES):
        save(face, tmp_path / ("train", "val")[i % 3 == 0] / ("happy", "sad")[i % 2] / f"{i}.png")
    save(FACES[1], tmp_path / "val" / "sad" / "again.bmp")
    save(FACES[2], tmp_path / "val" / "happy" / "again.jpg", quality=85)
    rows = rows_of(audit(scan(str(tmp_path))))
    assert rows["train/sad/1.png"]["leak"]
    assert rows["val/sad/again.bmp"]["leak"]
    assert rows["train/happy/2.png"]["near_leak"]
    assert not rows["train/happy/2.png"]["leak"]
    assert not rows["train/happy/4.png"]["near_leak"]


def test_blank_and_unreadable_images_are_named_with_their_reason(clean: Path) -> None:
    for value, name in ((0, "black.png"), (131, "grey.png")):
        save(Image.new("L", (48, 48), value), clean / "sad" / name)
    (clean / "sad" / "empty.png").touch()
    (clean / "happy" / "text.jpg").write_text("no image")
    found = audit(scan(str(clean)))
    rows = rows_of(found)
    assert rows["sad/black.png"]["blank"]
    assert rows["sad/grey.png"]["blank"]
    assert rows["sad/black.png"]["near_group"] is None  # nothing is seen in either
    assert rows["sad/empty.png"]["status"] == "the file is empty"
    assert rows["sad/empty.png"]["pixel_sha256"] is None
    summary = found.summary()
    assert (summary["blank"], summary["unreadable"]) == (2, 2)
    assert set(summary["wrong"]) == {"blank", "unreadable"}


def test_person_groups_are_offered_and_are_nothing_wrong(tmp_path: Path) -> None:
    for i in range(40):
        noise = RNG.integers(0, 256, (32, 32), dtype=np.uint8)
        label = ("happy", "sad")[i % 2]
        save(Image.fromarray(noise), tmp_path / label / f"S{i // 4:03d}_{i}.png")
    found = audit(scan(str(tmp_path)))
    assert found.group_pattern is not None
    assert rows_of(found)["happy/S000_0.png"]["person"] == "S000"
    assert found.summary()["people"] == 10
    assert found.summary()["wrong"] == []


def test_the_command_writes_the_table_and_strict_tells_by_its_exit_code(
    clean: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "audit.parquet"
    assert raylab("audit", clean, "--strict", "-o", output).exit_code == 0
    save(FACES[0], clean / "sad" / "same.bmp")
    (clean / "fear").mkdir()
    done = raylab("audit", clean, "-o", output)
    assert done.exit_code == 0
    assert "2   in 1 groups" in done.stdout
    assert done.stdout.endswith("\nno image in the folders fear\n")
    assert pq.read_table(output).num_rows == 13
    strict = raylab("audit", clean, "--strict", "--json", "-o", output)
    assert strict.exit_code == 1
    summary = json.loads(strict.stdout)
    assert summary["conflicting_groups"] == 1
    assert summary["remarks"] == ["no image in the folders fear"]


def test_where_no_file_can_be_written_nothing_is_audited(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylab.images.source.scan", None)  # not even begun
    (tmp_path / "file").touch()
    for wrong in (tmp_path, tmp_path / "file" / "a.parquet"):
        done = raylab("audit", clean, "-o", wrong)
        assert done.exit_code == 2
        assert str(wrong) in done.stderr
        assert "nothing was written" in done.stderr


def test_the_table_may_go_behind_a_uri(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "_open", lambda location: (remote, location.removeprefix("s3://")))
    monkeypatch.chdir(tmp_path)
    done = raylab("audit", clean, "-o", "s3://bucket/x/audit.parquet")
    assert (done.exit_code, done.stderr) == (0, "s3://bucket/x/audit.parquet\n")
    assert pq.read_table(tmp_path / "bucket" / "x" / "audit.parquet").num_rows == 12
    assert not (tmp_path / "s3:").exists()


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    done = raylab("audit", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert "no such folder" in done.stderr


def test_inline_images_are_audited(tmp_path: Path) -> None:
    found = audit(scan("toy:num=140"))
    assert found.table.num_rows == 140
    assert set(found.table["status"].to_pylist()) == {"ok"}
