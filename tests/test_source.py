import errno
import os
import shutil
import unicodedata
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from raylab import storage
from raylab.errors import CannotFinish, Refused
from raylab.images import found, manifests
from raylab.images.decode import decode
from raylab.images.source import scan


@pytest.fixture
def faces(tmp_path):
    """Two classes of three files each; scanning looks at no pixel, so any bytes do."""
    root = tmp_path / "faces"
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
        for i in range(3):
            (root / label / f"{i}.png").write_bytes(f"{label}{i}".encode())
    return root


def paths(source):
    return source.table["path"].to_pylist()


def labels(source):
    return dict(zip(paths(source), source.table["label"].to_pylist(), strict=True))


def fill(root, folders):
    """One image in each of the folders."""
    for folder in folders.split():
        (root / folder).mkdir(parents=True)
        (root / folder / "x.png").write_bytes(folder.encode())


def refusal(data):
    with pytest.raises(Refused, match="no trial was started") as refused:
        scan(str(data))
    return str(refused.value)


def test_a_folder_per_class_gives_its_images_in_order(faces):
    source = scan(str(faces))
    assert source.classes == ("happy", "sad")
    assert paths(source) == [f"{label}/{i}.png" for label in ("happy", "sad") for i in range(3)]
    assert not source.has_splits
    assert source.table["file"][0].as_py() == str(faces / "happy" / "0.png")


def test_names_with_spaces_quotes_and_korean_letters(faces):
    (faces / "기쁨 'x'").mkdir()
    (faces / "기쁨 'x'" / 'a "b" 슬픔.JPG').write_bytes(b"k")
    assert labels(scan(str(faces)))["기쁨 'x'/a \"b\" 슬픔.JPG"] == "기쁨 'x'"


def test_composed_and_decomposed_names_are_one_class(faces):
    for form in ("NFC", "NFD"):
        folder = faces / unicodedata.normalize(form, "기쁨")
        folder.mkdir()
        (folder / "a.png").write_bytes(form.encode())
    assert scan(str(faces)).classes == ("happy", "sad", "기쁨")


def test_files_below_a_class_folder_belong_to_it(faces):
    (faces / "sad" / "person1" / "day2").mkdir(parents=True)
    (faces / "sad" / "person1" / "day2" / "x.webp").write_bytes(b"x")
    assert labels(scan(str(faces)))["sad/person1/day2/x.webp"] == "sad"


def test_junk_hidden_and_other_files_are_passed_over(faces):
    before = paths(scan(str(faces)))
    for name in ("Thumbs.db", "desktop.ini", ".hidden.png", "notes.txt", "._0.png"):
        (faces / "happy" / name).write_bytes(b"junk")
    for folder in ("__MACOSX", ".git", "empty"):
        (faces / folder).mkdir()
    (faces / "__MACOSX" / "a.png").write_bytes(b"junk")
    assert paths(scan(str(faces))) == before


def test_symbolic_links_are_followed_but_not_in_circles(faces, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "f.png").write_bytes(b"fear")
    (faces / "fear").symlink_to(elsewhere)
    (faces / "sad" / "link.png").symlink_to(elsewhere / "f.png")
    (faces / "sad" / "round").symlink_to(faces)
    found = labels(scan(str(faces)))
    assert found["fear/f.png"] == "fear"
    assert found["sad/link.png"] == "sad"
    assert not any(path.startswith("sad/round/") for path in found)


def test_an_unreadable_file_is_kept_with_its_trouble(faces):
    (faces / "sad" / "gone.png").symlink_to(faces / "nowhere")
    table = scan(str(faces)).table
    trouble = dict(zip(table["path"].to_pylist(), table["trouble"].to_pylist(), strict=True))
    assert trouble.pop("sad/gone.png") == "cannot be read: No such file or directory"
    assert set(trouble.values()) == {None}


def test_a_file_name_that_is_not_utf8_is_kept_with_its_trouble(faces):
    with open(os.fsencode(faces / "sad") + b"/\xff.png", "wb") as file:
        file.write(b"x")
    table = scan(str(faces)).table
    (told,) = table["trouble"].drop_null().to_pylist()
    assert told.startswith("cannot be read: its name is not UTF-8")
    assert "unzip -O cp949" in told
    assert "convmv -f cp949 -t utf8" in told


@pytest.mark.parametrize("trouble", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_this_once_ends_the_scan(faces, monkeypatch, trouble):
    """Left out, it would make another source of the same folder."""
    read = found.read_content

    def failing(file):
        if file.endswith("sad/1.png"):
            raise OSError(trouble, os.strerror(trouble))
        return read(file)

    monkeypatch.setattr(found, "read_content", failing)
    with pytest.raises(CannotFinish, match=r"sad/1\.png could not be read: "):
        scan(str(faces))


def test_a_link_that_leads_to_itself_is_no_folder(faces):
    (faces / "sad" / "loop.png").symlink_to("loop.png")
    table = scan(str(faces)).table
    assert any("Too many levels" in (trouble or "") for trouble in table["trouble"].to_pylist())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_named(faces):
    (faces / "sad" / "closed").mkdir(mode=0)
    assert "sad/closed  cannot be listed: Permission denied" in refusal(faces)


def test_identical_images_get_numbered_ids(faces):
    (faces / "happy" / "copy.png").write_bytes(b"happy0")
    (faces / "sad" / "copy.png").write_bytes(b"happy0")
    table = scan(str(faces)).table
    ids = dict(zip(table["path"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    first = table["sha256"][0].as_py()[:16]
    assert [ids[p] for p in ("happy/0.png", "happy/copy.png", "sad/copy.png")] == [
        first,
        f"{first}-2",
        f"{first}-3",
    ]
    assert len(set(ids.values())) == len(ids)


def test_the_fingerprint_is_of_content_and_labels_and_not_of_names(faces):
    before = scan(str(faces)).fingerprint
    (faces / "happy" / "0.png").rename(faces / "happy" / "z.png")
    assert scan(str(faces)).fingerprint == before
    (faces / "happy" / "z.png").rename(faces / "sad" / "z.png")
    relabelled = scan(str(faces)).fingerprint
    (faces / "sad" / "z.png").write_bytes(b"other")
    assert len({before, relabelled, scan(str(faces)).fingerprint}) == 3


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "TEST")])
def test_split_folders_give_the_split(tmp_path, names):
    for name in names:
        for label in ("a", "b"):
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "x.png").write_bytes(f"{name}{label}".encode())
    source = scan(str(tmp_path))
    assert source.classes == ("a", "b")
    assert sorted(source.table["given_split"].to_pylist()) == sorted(["test", "train", "val"] * 2)


def test_a_class_called_test_is_a_class_where_not_all_folders_are_splits(faces):
    (faces / "test").mkdir()
    (faces / "test" / "x.png").write_bytes(b"x")
    source = scan(str(faces))
    assert source.classes == ("happy", "sad", "test")
    assert not source.has_splits


def test_a_folder_that_is_no_split_among_splits_is_refused(tmp_path):
    for split in ("train", "test", "eval"):
        for label in ("happy", "sad"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "x.png").write_bytes(f"{split}{label}".encode())
    told = refusal(tmp_path)
    assert "eval: no folder of a split, but train/happy looks like a class in one; name" in told
    shutil.rmtree(tmp_path / "eval")
    assert scan(str(tmp_path)).classes == ("happy", "sad")


@pytest.mark.parametrize(
    ("folders", "strangers"),
    [
        ("train/happy train/sad val/happy val/sad plots", "plots"),
        ("train/happy train/sad results", "results"),
        ("train_set/happy train_set/sad test_set/happy test_set/sad", "test_set, train_set"),
        ("Training/happy Training/sad Test/sad holdout", "holdout"),
    ],
)
def test_folders_of_splits_do_not_become_classes(tmp_path, folders, strangers):
    fill(tmp_path, folders)
    assert f"{strangers}: no folder of a split, but " in refusal(tmp_path)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        ("happy/S01 happy/S02 sad/S01 sad/S02", ("happy", "sad")),
        ("car/day1 car/day2 train/day1", ("car", "train")),
        ("restrained/S01 restrained/S02 happy/S01", ("happy", "restrained")),
        ("car train", ("car", "train")),
        ("kitchen/a train_station/indoor train_station/outdoor", ("kitchen", "train_station")),
    ],
)
def test_classes_with_folders_of_their_own_stay_classes(tmp_path, folders, classes):
    fill(tmp_path, folders)
    assert scan(str(tmp_path)).classes == classes


def test_what_lies_in_a_folder_and_is_not_taken_is_told(faces):
    assert scan(str(faces)).remarks == ()
    (faces / "angry").mkdir()
    (faces / "angry" / "a.npy").write_bytes(b"x")
    (faces / "fear").mkdir()
    (faces / "Sad").mkdir()
    for name in ("loose.png", "notes.txt", "Sad/1.png", "sad/raw", "sad/b.NPY", "sad/Thumbs.db"):
        (faces / name).write_bytes(name.encode())
    assert scan(str(faces)).remarks == (
        "1 of 8 images lie in no class folder and are not used (first: loose.png)",
        "no image in the folders angry, fear",
        "3 files are no images by their names: .npy 2, no suffix 1",
        "labels that differ only in capitals are classes of their own: Sad and sad",
    )


def test_a_flat_folder_of_test_images_beside_split_folders_is_told(tmp_path):
    fill(tmp_path, "train/happy train/sad test")
    assert scan(str(tmp_path)).remarks == (
        "1 of 3 images lie in no class folder and are not used (first: test/x.png)",
    )


def test_a_csv_manifest_with_split_and_group(faces):
    manifest = faces / "faces.csv"
    manifest.write_text(
        "\ufeffPath, label ,split,group\nhappy/0.png,joy,train,anna\n"
        f"{faces}/sad/1.png,슬픔,val,\n'missing, one'.png,joy,test,ben\n".replace(
            "'missing, one'.png", '"missing, one.png"'
        ),
        encoding="utf-8",
    )
    table = scan(str(manifest)).table.sort_by("path")
    rows = {row["path"]: row for row in table.to_pylist()}
    assert rows["happy/0.png"]["group"] == "anna"
    assert rows["happy/0.png"]["file"] == str(faces / "happy/0.png")
    assert rows[f"{faces}/sad/1.png"]["label"] == "슬픔"
    assert rows[f"{faces}/sad/1.png"]["group"] is None
    assert rows["missing, one.png"]["trouble"].startswith("cannot be read")
    assert [rows[p]["given_split"] for p in ("happy/0.png", "missing, one.png")] == [
        "train",
        "test",
    ]


def test_a_csv_saved_by_a_korean_excel(faces):
    manifest = faces / "faces.csv"
    manifest.write_bytes("path;label\nhappy/0.png;기쁨\nsad/0.png;슬픔\n".encode("cp949"))
    assert scan(str(manifest)).classes == ("기쁨", "슬픔")


def test_a_parquet_manifest(faces):
    manifest = faces / "faces.parquet"
    pq.write_table(pa.table({"path": ["happy/0.png", "sad/0.png"], "label": [0, 1]}), manifest)
    source = scan(str(manifest))
    assert source.classes == ("0", "1")
    assert source.table["trouble"].null_count == 2


def test_kaggles_fer2013_csv(tmp_path):
    pixels = [" ".join(str((i + j) % 256) for j in range(48 * 48)) for i in range(3)]
    csv = tmp_path / "fer2013.csv"
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{e},{p},{u}\n" for e, p, u in zip((0, 3, 6), pixels, usages, strict=True)]
    csv.write_text("emotion, pixels, Usage\n" + "".join(rows))
    source = scan(str(csv))
    assert source.classes == ("angry", "happy", "neutral")
    assert source.table["given_split"].to_pylist() == ["train", "val", "test"]
    image = decode(source.table["pixels"][1].as_py(), 48, 1)
    assert image.ravel().tolist() == [(1 + j) % 256 for j in range(48 * 48)]


@pytest.mark.parametrize("pixels", ["x", "1 x 3", "1 300", "-1 3", "1 2 3 4.5", "1,2"])
def test_pixels_that_are_no_bytes_are_refused(tmp_path, pixels):
    (tmp_path / "m.csv").write_text(f"emotion;pixels\n0;0\n1;{pixels}\n")
    assert "m.csv:3  pixels: not all are integers in 0..255" in refusal(tmp_path / "m.csv")


def test_fer2013_csv_may_have_votes_groups_and_boxes_as_a_manifest_has(tmp_path):
    columns = "emotion,pixels,Usage,votes_angry,votes_happy,group,box_x,box_y,box_w,box_h,person"
    rows = "0,1 2 3 4,Training,3,1,anna,0,0,1,2,p1\n3,5 6 7 8,PublicTest,,,ben,,,,,p2\n"
    (tmp_path / "fer2013.csv").write_text(f"{columns}\n{rows}")
    source = scan(str(tmp_path / "fer2013.csv"))
    assert source.table["path"].to_pylist() == ["fer2013.csv:2", "fer2013.csv:3"]
    assert source.table["votes"].to_pylist() == [[3.0, 1.0], None]
    assert source.table["group"].to_pylist() == ["anna", "ben"]
    assert source.table["box"].to_pylist() == [[0.0, 0.0, 1.0, 2.0], None]
    assert source.table["given_split"].to_pylist() == ["train", "val"]
    assert source.remarks == ("columns that are not read: person",)


def test_usage_is_the_split_of_a_manifest_that_has_no_other(faces):
    rows = "happy/0.png,a,{}\nsad/0.png,b,{}\n"
    first = "path,label,Usage\n" + rows.format("Training", "PrivateTest")
    (faces / "m.csv").write_text(first)
    source = scan(str(faces / "m.csv"))
    assert source.table["given_split"].to_pylist() == ["train", "test"]
    assert source.remarks == ()
    second = "path,label,Usage,split\n" + rows.format("x,train", "x,val")
    (faces / "m.csv").write_text(second)
    source = scan(str(faces / "m.csv"))
    assert source.table["given_split"].to_pylist() == ["train", "val"]
    assert source.remarks == ("columns that are not read: usage",)
    (faces / "m.csv").write_text("path,label,usage\n" + rows.format("commercial", ""))
    assert not scan(str(faces / "m.csv")).has_splits


@pytest.mark.parametrize(
    ("column", "meant"), [("Splits", "split"), ("groups", "group"), ("bbox_x", "box_x")]
)
def test_a_column_that_is_nearly_one_that_is_read_is_refused(faces, column, meant):
    (faces / "m.csv").write_text(f"path,label,{column}\nhappy/0.png,a,1\nsad/0.png,b,1\n")
    told = f"m.csv:1  column {column.lower()!r} is not read; rename it {meant!r}, or take it out"
    assert told in refusal(faces / "m.csv")


def test_columns_that_are_not_read_are_told(faces):
    columns = ["age_group", "person", "set", *(f"f{i}" for i in range(7))]
    rows = [f"{path},{'1,' * 9}1\n" for path in ("happy/0.png,a", "sad/0.png,b")]
    (faces / "m.csv").write_text(f"path,label,{','.join(columns)}\n{''.join(rows)}")
    assert scan(str(faces / "m.csv")).remarks == (
        "columns that are not read: age_group, person, set, f0, f1, f2, f3, f4 and 2 more",
    )


def test_a_column_that_stands_twice_is_refused_if_it_is_read(faces):
    (faces / "m.csv").write_text("path,label,Label,,\nhappy/0.png,a,b,,\nsad/0.png,b,a,,\n")
    told = "m.csv:1  column 'label' stands there 2 times; take all but one out"
    assert told in refusal(faces / "m.csv")
    columns = {"path": ["happy/0.png", "sad/0.png"], "label": [0, 1], "LABEL": [1, 0]}
    pq.write_table(pa.table(columns), faces / "m.parquet")
    assert "column 'label' stands there 2 times" in refusal(faces / "m.parquet")
    (faces / "m.csv").write_text("path,label,x,x,,\nhappy/0.png,a,1,2,,\nsad/0.png,b,1,2,,\n")
    assert scan(str(faces / "m.csv")).classes == ("a", "b")


def test_a_manifest_may_write_paths_as_windows_does(faces):
    rows = "happy\\0.png,a\nsad\\기쁨.png,b\ngone\\0.png,b\n"
    (faces / "sad" / "기쁨.png").write_bytes(b"k")
    (faces / "m.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    table = scan(str(faces / "m.csv")).table
    trouble = dict(zip(table["path"].to_pylist(), table["trouble"].to_pylist(), strict=True))
    assert trouble.pop("gone\\0.png") == "cannot be read: No such file or directory"
    assert set(trouble.values()) == {None}


def test_toy_is_a_source():
    source = scan("toy:num=100")
    assert source.num_images == 100
    assert len(source.classes) == 7
    assert source.fingerprint == scan("toy:num=100").fingerprint
    assert source.fingerprint != scan("toy:num=100,seed=1").fingerprint
    assert decode(source.table["pixels"][0].as_py(), 64, 3).shape == (64, 64, 3)


def test_a_missing_folder_is_refused_with_its_neighbours(faces):
    assert f"{faces.parent}/fcaes  no such folder; {faces.parent} has faces" in refusal(
        faces.parent / "fcaes"
    )


def test_images_without_class_folders_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    assert "no images in it; images lie directly in it, where a folder per" in refusal(tmp_path)


def test_one_class_is_refused_and_the_folder_below_suggested(faces):
    assert f"only one class, 'faces' (6 images); at least 2 are needed; did you mean {faces}?" in (
        refusal(faces.parent)
    )


def test_a_source_of_unreadable_files_is_refused(faces):
    manifest = faces / "m.csv"
    manifest.write_text("path,label\nx.png,a\ny.png,b\n")
    assert "none of 2 images can be read; x.png cannot be read: No such" in refusal(manifest)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["m.csv:1  no column 'path', only nothing", "m.csv:1  no column 'label'"]),
        ("path,lable\n", ["m.csv:1  no column 'label', only path, lable; did you mean 'lable'?"]),
        ("path,label\n", ["m.csv  no images in it"]),
        (
            "path,label,split\na.png,,train\n\n,x,train\na.png,x,trian\na.png,x,\n",
            [
                "m.csv:2  label is empty",
                "m.csv:4  path is empty",
                "m.csv:5  split: 'trian' is not one of train, val, test",
                "m.csv:6  split: '' is not one of",
            ],
        ),
        (
            'path,label\na.png,x\n"b.png,x\nc.png,x\nd".png,x\ne.png,x\n',
            ["m.csv:5  path or label goes on in the next line: a quote is opened"],
        ),
        (
            "emotion,pixels\n7,1 2\n0,1 2 3\n0,1 2 3 256\n",
            [
                "m.csv:2  emotion: '7' is not one of 0..6",
                "m.csv:3  pixels: 3 values do not fill a square",
                "m.csv:4  pixels: not all are integers in 0..255",
            ],
        ),
    ],
)
def test_every_problem_of_a_manifest_is_reported_with_its_line(tmp_path, text, messages):
    (tmp_path / "m.csv").write_text(text)
    told = refusal(tmp_path / "m.csv")
    assert all(message in told for message in messages), told


def test_a_cell_without_end_is_reported_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "MAX_CELL", 1000)
    (tmp_path / "m.csv").write_text(f"path,label\na.png,x\n{'b' * 2000}.png,x\n")
    assert "m.csv:3  is no row of a CSV: field larger" in refusal(tmp_path / "m.csv")


def test_a_manifest_with_thousands_of_problems_shows_some(tmp_path):
    (tmp_path / "m.csv").write_text("path,label\n" + "a.png,\n" * 3000)
    told = refusal(tmp_path / "m.csv")
    assert "2980 more rows have problems like these" in told
    assert told.count("\n") < 30


def test_gaps_in_columns_of_floats_are_no_group_and_no_label(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(name.encode())
    columns = {"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "y"]}
    groups = pa.array([1.0, float("nan"), float("nan")])
    pq.write_table(pa.table({**columns, "group": groups}), tmp_path / "m.parquet")
    table = scan(str(tmp_path / "m.parquet")).table
    assert table["group"].to_pylist() == ["1.0", None, None]


def test_a_manifest_may_write_names_and_groups_in_another_unicode_form_than_the_disk(tmp_path):
    written, stored = (unicodedata.normalize(form, "홍길동") for form in ("NFC", "NFD"))
    (tmp_path / f"{stored}.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"2")
    rows = f"{written}.png,x,{written}\nb.png,y,{stored}\n"
    (tmp_path / "m.csv").write_text(f"path,label,group\n{rows}")
    table = scan(str(tmp_path / "m.csv")).table
    assert table["trouble"].null_count == 2
    assert set(table["group"].to_pylist()) == {written}


def test_a_broken_parquet_manifest_is_refused(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 not really")
    assert "is not a Parquet file" in refusal(tmp_path / "m.parquet")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """`s3://bucket/…` is served from a folder of this machine."""
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def open_here(location):
        return local, unquote(location.partition("?")[0].removeprefix("s3://bucket/")).rstrip("/")

    monkeypatch.setattr(storage, "_open", open_here)
    monkeypatch.setattr(found, "_folder", storage.Folder)
    return "s3://bucket"


def test_a_folder_in_an_object_store_is_the_same_source(faces, bucket):
    (faces / "happy" / "기쁨 100%?.png").write_bytes(b"k")
    (faces / "loose.png").write_bytes(b"l")
    (faces / "sad" / "a.npy").write_bytes(b"n")
    local, remote = scan(str(faces)), scan(f"{bucket}/faces?region=eu-north-1")
    assert remote.fingerprint == local.fingerprint
    assert len(remote.remarks) == 2
    assert remote.remarks == local.remarks
    assert paths(remote) == paths(local)
    assert remote.table["trouble"].null_count == remote.num_images
    assert remote.table["file"][0].as_py() == f"{bucket}/faces/happy/0.png?region=eu-north-1"


def test_a_manifest_in_an_object_store_names_its_neighbours(faces, bucket):
    (faces / "m 1.csv").write_text("path,label\nhappy/0.png,a\nsad/0.png,b\n")
    source = scan(f"{bucket}/faces/m%201.csv?region=eu-north-1")
    assert source.table["trouble"].null_count == 2
    assert source.table["file"][0].as_py() == f"{bucket}/faces/happy/0.png?region=eu-north-1"


def test_rows_of_fer2013_in_an_object_store_have_their_lines(faces, bucket):
    (faces / "fer2013.csv").write_text("emotion,pixels\n0,1\n3,2\n")
    source = scan(f"{bucket}/faces/fer2013.csv?region=eu-north-1")
    assert paths(source) == ["fer2013.csv:2", "fer2013.csv:3"]
