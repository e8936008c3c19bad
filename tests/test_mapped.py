"""A variant beyond the memory budget is trained from disk: same pixels, same metrics, no memory."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from raylab.config.grid import read_grid
from raylab.errors import CannotFinish, CannotWrite
from raylab.images.mapped import mapped_pixels
from raylab.images.prepare import Variant, as_array
from raylab.results.directory import ResultsDirectory
from raylab.storage import Folder
from raylab.sweep.runner import Options, run_sweep

MAX_GROWTH_BYTES = 48 * 2**20


def variant_of(folder: Path, num: int, side: int, num_parts: int = 3) -> Variant:
    """A variant of random grey images, one of each part damaged."""
    rng = np.random.default_rng(0)
    names = [f"part-{i}.parquet" for i in range(num_parts)]
    for i, name in enumerate(names):
        rows = [rng.bytes(side * side) for _ in range(num)]
        table = pa.table(
            {
                "sha256": [f"{i}{row:05d}" for row in range(num)],
                "pixels": pa.array([None, *rows[1:]], pa.binary(side * side)),
                "status": ["no image", *(["ok"] * (num - 1))],
            }
        )
        Folder(folder).write_table(name, table)
    total = num * num_parts
    return Variant("v", side, 1, Folder(folder), tuple(names), total, total - num_parts)


def test_the_mapped_pixels_are_those_in_memory(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, num=40, side=8)
    mapped = mapped_pixels(variant)
    np.testing.assert_array_equal(mapped, as_array(variant.table(), 8, 1))
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable


def test_a_second_process_of_the_machine_writes_nothing(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, num=5, side=8)
    mapped_pixels(variant)
    for part in variant.parts:
        (tmp_path / part).unlink()
    assert len(mapped_pixels(variant)) == variant.num_ok


def test_a_file_of_another_size_is_written_anew(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, num=5, side=8)
    right = mapped_pixels(variant).copy()
    (tmp_path / "pixels.bin").write_bytes(bytes(right.size + 64))
    assert (mapped_pixels(variant) == right).all()


def test_a_disk_without_room_is_told_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = variant_of(tmp_path, num=5, side=8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    monkeypatch.setattr(Folder, "read_table", None)  # nothing is even read
    with pytest.raises(CannotWrite, match="768 bytes are needed and 100 are free") as told:
        mapped_pixels(variant)
    assert f"{tmp_path / 'pixels.bin'} cannot be written" in str(told.value)
    assert [path.name for path in tmp_path.glob("pixels.*")] == ["pixels.bin.lock"]


def test_a_disk_that_fills_meanwhile_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = variant_of(tmp_path, num=5, side=8)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        mapped_pixels(variant)
    assert [path.name for path in tmp_path.glob("pixels.*")] == ["pixels.bin.lock"]


def test_a_damaged_part_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    variant = variant_of(tmp_path, num=5, side=8)
    (tmp_path / "part-1.parquet").write_bytes(b"")
    with pytest.raises(CannotFinish, match=r"part-1\.parquet cannot be read: .*\n.*delete it"):
        mapped_pixels(variant)
    assert [path.name for path in tmp_path.glob("pixels.*")] == ["pixels.bin.lock"]


READ_AN_EPOCH = """
import sys
from pathlib import Path
import torch
from raylab.config.trial import TrialConfig
from raylab.images.mapped import mapped_pixels
from raylab.images.prepare import Variant
from raylab.storage import Folder
from raylab.training.pixels import as_tensor
from raylab.training.pixels import Pixels

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def epoch(side):
    parts = tuple(f"part-{i}.parquet" for i in range(12))
    folder = Folder(Path(sys.argv[1]) / str(side))
    variant = Variant("v", side, 1, folder, parts, 12 * 50, 12 * 49)
    images = as_tensor(mapped_pixels(variant))
    pixels = Pixels(images, TrialConfig(channels=1, image_size=side), torch.device("cpu"))
    total = sum(pixels.normalize(pixels.take(rows)).sum() for rows in
                torch.randperm(len(images)).split(4))
    return images.nbytes

torch.set_num_threads(1)
epoch(32)
before = anonymous()
size = epoch(600)
print(size, anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_an_epoch_from_disk_does_not_take_the_images_into_memory(tmp_path: Path) -> None:
    for side in (32, 600):
        variant_of(tmp_path / str(side), num=50, side=side, num_parts=12)
    done = subprocess.run(
        [sys.executable, "-c", READ_AN_EPOCH, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    size, growth = map(int, done.stdout.split())
    assert size > 4 * MAX_GROWTH_BYTES
    assert growth < MAX_GROWTH_BYTES


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_sweep_beyond_its_memory_budget_gives_the_same_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(tmp_path / "cache"))
    grid = tmp_path / "tiny.yaml"
    grid.write_text(
        "name: tiny\ndata: toy:num=140\n"
        "trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32}\n"
    )
    rows = []
    for budget in ("auto", "0.00001"):
        sweep = read_grid(grid, overrides=[f"resources.image_memory_gb={budget}"])
        results = str(tmp_path / f"results {budget}")
        assert run_sweep(sweep, Options(results)).exit_code == 0
        [record] = ResultsDirectory(results).records()
        rows.append([(e["train_loss"], e["val_loss"], e["val_accuracy"]) for e in record.epochs])
    assert "are read from disk" in capsys.readouterr().err
    assert rows[0] == rows[1]
    assert list((tmp_path / "cache").rglob("pixels.bin"))
