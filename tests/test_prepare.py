import io
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, features

from raylab.errors import CannotFinish
from raylab.images import prepare as prepare_module
from raylab.images.cache import MANIFEST, variant_folder
from raylab.images.decode import decode
from raylab.images.parts import Job, write_part
from raylab.images.prepare import as_array, find_variant, image_table, prepare
from raylab.images.source import scan
from raylab.images.toy import write_folder
from raylab.images.variant import Format, variant_id
from raylab.storage import Folder

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture
def faces(tmp_path):
    """100 faces, one of them torn, one there twice."""
    root = tmp_path / "faces"
    write_folder(root, 100)
    files = sorted((root / "happy").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    (root / "sad" / "copy.png").write_bytes(files[1].read_bytes())
    return root


@pytest.fixture
def cache(tmp_path):
    return Folder(tmp_path / "cache")


def ignore(done, total):
    pass


def test_every_distinct_image_is_decoded_once_in_order(faces, cache):
    source = scan(str(faces))
    seen = []
    variant = prepare(source, Format(32, 3), cache, lambda done, total: seen.append((done, total)))
    assert (variant.num_images, variant.num_ok) == (100, 99)
    assert seen[0] == (0, 100)
    assert seen[-1] == (100, 100)
    table = variant.table()
    hashes = table["sha256"].to_pylist()
    assert hashes == sorted(set(hashes))
    assert table["pixels"].num_chunks == 1
    pixels = as_array(table, 32, 3)
    assert (pixels.shape, pixels.dtype) == ((99, 32, 32, 3), np.uint8)
    files = dict(
        zip(source.table["sha256"].to_pylist(), source.table["file"].to_pylist(), strict=True)
    )
    for i in (0, 50, 98):
        with open(files[hashes[i]], "rb") as file:
            assert (pixels[i] == decode(file.read(), 32, 3)).all()
    part = as_array(table.slice(40, 9), 32, 3)
    assert (part == pixels[40:49]).all()


def test_the_image_table_says_what_was_left_out_and_why(faces, cache):
    (faces / "sad" / "gone.png").symlink_to(faces / "nowhere")
    source = scan(str(faces))
    images = image_table(source, prepare(source, Format(16, 1), cache, ignore))
    rows = {row["path"]: row for row in images.to_pylist()}
    assert len(rows) == source.num_images == 102
    assert rows["sad/gone.png"]["status"] == "cannot be read: No such file or directory"
    torn = [row for row in rows.values() if row["status"].startswith("damaged")]
    assert [(row["label"], row["width"], row["height"]) for row in torn] == [("happy", 0, 0)]
    assert rows["sad/copy.png"]["status"] == "ok"
    assert (rows["sad/copy.png"]["width"], rows["sad/copy.png"]["height"]) == (64, 64)


def test_a_prepared_variant_is_found_again_after_renaming(faces, cache, monkeypatch):
    first = prepare(scan(str(faces)), Format(16, 1), cache, ignore)
    (faces / "sad" / "copy.png").rename(faces / "sad" / "other.png")
    monkeypatch.setattr(prepare_module, "_run", None)  # any work would fail
    assert prepare(scan(str(faces)), Format(16, 1), cache, ignore) == first


def test_another_content_size_colour_or_filter_is_another_variant(faces):
    source = scan(str(faces))
    ids = {variant_id(source, Format(size, channels)) for size in (16, 32) for channels in (1, 3)}
    (faces / "sad" / "copy.png").write_bytes(b"other")
    ids.add(variant_id(source, Format(16, 1, interpolation="bilinear")))
    ids.add(variant_id(scan(str(faces)), Format(16, 1)))
    assert len(ids) == 6


def test_an_interrupted_preparation_is_not_found_and_goes_on(faces, cache, monkeypatch):
    monkeypatch.setattr(prepare_module, "MIN_PART_IMAGES", 10)
    source = scan(str(faces))

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, Format(16, 1), cache, interrupt)
    assert find_variant(source, Format(16, 1), cache) is None
    whole = prepare(source, Format(16, 1), cache, ignore)
    assert len(whole.parts) == 10
    assert whole.num_ok == whole.table().num_rows == 99


def test_an_image_that_no_memory_holds_is_named_and_not_kept_as_damaged(tmp_path, monkeypatch):
    def look(*asked: object) -> None:
        raise MemoryError

    monkeypatch.setattr("raylab.images.parts.look", look)
    (tmp_path / "huge.png").write_bytes(b"any")
    row = {"sha256": sha256(b"any").hexdigest(), "file": f"{tmp_path}/huge.png", "box": None}
    images = pa.Table.from_pylist([row | {"pixels": None}])
    written = write_part(Job("part.parquet", images), Folder(tmp_path), Format(8, 1))
    assert written.troubles == (
        f"{tmp_path}/huge.png: no memory to decode it; free some, or leave it out",
    )
    assert not (tmp_path / "part.parquet").exists()


def test_a_file_that_changed_since_the_scan_ends_the_preparation(faces, cache):
    source = scan(str(faces))
    (faces / "sad" / "copy.png").unlink()
    changed = sorted((faces / "angry").iterdir())[0]
    changed.write_bytes(b"other")
    with pytest.raises(CannotFinish, match="1 files changed, vanished or could not") as error:
        prepare(source, Format(16, 1), cache, ignore)
    assert str(changed) in str(error.value)
    assert find_variant(source, Format(16, 1), cache) is None
    assert prepare(scan(str(faces)), Format(16, 1), cache, ignore).num_images == 100


def test_inline_sources_are_prepared_too(cache):
    source = scan("toy:num=100")
    variant = prepare(source, Format(64, 3), cache, ignore)
    assert variant.num_ok == 100
    shown = Image.open(io.BytesIO(source.table["pixels"][0].as_py()))
    row = variant.table()["sha256"].to_pylist().index(source.table["sha256"][0].as_py())
    assert (as_array(variant.table(), 64, 3)[row] == np.asarray(shown)).all()


def test_a_variant_whose_parts_were_deleted_is_prepared_again(cache):
    source = scan("toy:num=100")
    first = prepare(source, Format(16, 1), cache, ignore)
    first.folder.delete(first.parts[0])
    assert find_variant(source, Format(16, 1), cache) is None
    assert prepare(source, Format(16, 1), cache, ignore).table().num_rows == 100


def test_a_part_that_a_power_cut_emptied_is_prepared_again(cache):
    source = scan("toy:num=100")
    first = prepare(source, Format(16, 1), cache, ignore)
    whole = first.table()
    first.folder.write_bytes(first.parts[0], b"")
    assert find_variant(source, Format(16, 1), cache) is None
    assert prepare(source, Format(16, 1), cache, ignore).table() == whole


def test_a_damaged_part_is_named_and_once_deleted_prepared_again(cache):
    source = scan("toy:num=100")
    first = prepare(source, Format(16, 1), cache, ignore)
    first.folder.write_bytes(first.parts[1], bytes(100))
    name = first.folder.path_of(first.parts[1])
    for read in (first.table, first.statuses):
        with pytest.raises(CannotFinish, match="If it is damaged, delete it") as told:
            read()
        assert str(told.value).startswith(f"{name} cannot be read: ")
    first.folder.delete(first.parts[1])
    assert prepare(source, Format(16, 1), cache, ignore).table().num_rows == 100


def test_a_manifest_that_says_nothing_is_none(cache):
    source = scan("toy:num=100")
    variant_folder(cache, variant_id(source, Format(16, 1))).write_json(MANIFEST, {})
    assert find_variant(source, Format(16, 1), cache) is None


def test_images_that_this_pillow_cannot_read_are_asked_anew_of_one_that_can(monkeypatch):
    source = scan("toy:num=100")
    able = variant_id(source, Format(16, 1))
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    assert variant_id(source, Format(16, 1)) != able
