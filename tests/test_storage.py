"""Folder: whole files, the same behaviour on a disk and behind a URI."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from raylab import storage
from raylab.errors import CannotWrite, Refused
from raylab.storage import Folder, file_at, without_secrets


@pytest.fixture(params=["local", "remote"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Folder:
    if request.param == "local":
        return Folder(tmp_path / "results")
    # Stands in for s3://: everything that goes through pyarrow's filesystems, on a disk.
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def opened(location: str) -> tuple[fs.FileSystem, str]:
        return local, location.removeprefix("s3://")

    monkeypatch.setattr(storage, "_open", opened)
    return Folder("s3://bucket/results")


def test_reads_what_was_written(folder: Folder) -> None:
    table = pa.table({"a": [1, 2], "b": ["기쁨", None]})
    folder.write_bytes("logs/one.log", b"text")
    folder.write_table("tables/t.parquet", table)
    folder.write_json("environment.json", {"name": "슬픔", "n": 1})
    assert folder.read_bytes("logs/one.log") == b"text"
    assert folder.read_table("tables/t.parquet").equals(table)
    assert folder.read_table("tables/t.parquet", columns=["b"]).column_names == ["b"]
    assert folder.read_json("environment.json") == {"name": "슬픔", "n": 1}


def test_names_are_recursive_relative_and_filtered_by_prefix(folder: Folder) -> None:
    assert folder.names() == []
    for name in ("b.txt", "records/2.json", "records/1.json", "records-old/1.json"):
        folder.write_bytes(name, b"")
    assert folder.names("records/") == ["records/1.json", "records/2.json"]
    assert folder.names("rec") == ["records-old/1.json", "records/1.json", "records/2.json"]
    assert len(folder.names()) == 4
    assert folder.names("none/") == []


def test_missing_file_is_file_not_found(folder: Folder) -> None:
    assert not folder.exists("none")
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("none")
    with pytest.raises(FileNotFoundError):
        folder.read_table("none.parquet")


def test_delete_takes_files_folders_and_nothing(folder: Folder) -> None:
    folder.write_bytes("a.txt", b"")
    folder.write_bytes("many/b.txt", b"")
    folder.write_bytes("many/deep/c.txt", b"")
    for name in ("a.txt", "many", "none"):
        folder.delete(name)
    assert folder.names() == []
    assert not folder.exists("many")


def test_child_is_the_folder_below(folder: Folder) -> None:
    folder.child("checkpoints/abc").write_bytes("w.bin", b"x")
    assert folder.names() == ["checkpoints/abc/w.bin"]


def test_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    folder.write_bytes("a.txt", b"old")

    def full(source: str, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        folder.write_bytes("a.txt", b"new")
    assert folder.read_bytes("a.txt") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_half_written_file_of_a_killed_writer_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / f".1234{storage.UNFINISHED_SUFFIX}").write_bytes(b"half")
    assert Folder(tmp_path).names() == []


def test_half_written_files_are_removed_below_one_subfolder_only(folder: Folder) -> None:
    folder.write_bytes("states/a", b"whole")
    if folder.is_local:
        for name in ("states/.1.part", "records/.2.part"):
            (Path(folder.location) / name).parent.mkdir(exist_ok=True)
            (Path(folder.location) / name).write_bytes(b"half")
    folder.delete_unfinished("states")
    folder.delete_unfinished("nowhere")
    assert folder.names() == ["states/a"]
    if folder.is_local:
        left = {path.name for path in Path(folder.location).rglob("*") if path.is_file()}
        assert left == {"a", ".2.part"}


def test_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "lr=0.1")
    folder.write_table("t.parquet", pa.table({"a": [1]}))
    assert folder.read_table("t.parquet").column_names == ["a"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../../up", "a//b"])
def test_names_stay_below_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a relative name"):
        Folder(tmp_path).write_bytes(name, b"")


def test_locations_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folder("results").location == str(tmp_path / "results")
    assert Folder(tmp_path.as_uri()).location == str(tmp_path)
    assert Folder("file:///data/run#2?x").location == "/data/run#2?x"
    assert Folder("file://localhost/data/%EC%96%BC").location == "/data/얼"
    assert Folder("results").is_local
    assert not Folder("s3://bucket/x").is_local


def test_options_of_a_uri_stay_behind_its_path() -> None:
    folder = Folder("s3://bucket/x?region=us-west-2")
    assert folder.path_of("a b/c") == "s3://bucket/x/a%20b/c?region=us-west-2"
    assert folder.child("y").location == "s3://bucket/x/y?region=us-west-2"


@pytest.mark.parametrize("at", ["/data/a run", "s3://bucket", "s3://b/r?scheme=http&endpoint=h:9"])
def test_a_folder_knows_the_one_above_and_its_own_name_there(at: str) -> None:
    folder = Folder(at)
    for name in ("checkpoints", "내 얼굴", "100 %?"):
        child = folder.child(name)
        assert (child.above, child.name) == (folder, name)


@pytest.mark.parametrize("top", ["/", "s3://bucket", "s3://bucket/?region=eu"])
def test_nothing_is_above_the_top_of_a_storage(top: str) -> None:
    assert Folder(top).above is None


def test_a_uri_may_be_typed_with_spaces_and_korean_letters() -> None:
    folder = Folder("s3://bucket/내 얼굴?region=us-west-2")
    assert folder == Folder("s3://bucket/%EB%82%B4%20%EC%96%BC%EA%B5%B4?region=us-west-2")
    assert folder.opened()[1] == "bucket/내 얼굴"


def test_a_uri_that_nobody_can_open_is_refused() -> None:
    with pytest.raises(Refused, match="https://host/x  is no place that can be opened"):
        Folder("https://host/x").names()


def test_a_file_that_a_user_names_is_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_at("new/a b.html") == (Folder("new"), "a b.html")
    assert file_at("s3://b/x/a b.html?region=eu") == (Folder("s3://b/x?region=eu"), "a b.html")
    (tmp_path / "file").touch()
    for wrong, said in (
        (".", "is a folder"),
        ("s3://bucket", "is a folder"),
        ("file/a", "cannot be below"),
        ("file/deep/a", "cannot be below .*file, which is a file"),
    ):
        with pytest.raises(Refused, match=said):
            file_at(wrong)


def test_pickles_as_its_location(folder: Folder) -> None:
    assert pickle.loads(pickle.dumps(folder)) == folder


class Failing:
    """A filesystem of which every third call is a fault of the network."""

    def __init__(self, real: fs.FileSystem) -> None:
        self.real, self.num_calls = real, 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.num_calls += 1
            if self.num_calls % 3 == 0:
                raise OSError("AWS Error SLOW_DOWN during PutObject operation: injected")
            return getattr(self.real, name)(*given, **named)

        return call


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
    filesystem = Failing(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    monkeypatch.setattr(storage, "_open", lambda location: (filesystem, "bucket/r"))
    monkeypatch.setattr(storage, "PAUSES_S", (0.001, 0.001, 0.001))
    return filesystem


def test_a_remote_storage_that_fails_every_third_call_is_asked_again(failing: Failing) -> None:
    folder = Folder("s3://bucket/r")
    for number in range(20):
        folder.write_json(f"records/{number}.json", {"number": number})
    assert [folder.read_json(f"records/{n}.json")["number"] for n in range(20)] == list(range(20))
    assert len(folder.names("records/")) == 20
    folder.delete("records/3.json")
    assert not folder.exists("records/3.json")
    assert failing.num_calls > 60


def test_a_remote_storage_that_always_fails_says_what_to_do(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def down(name: str, recursive: bool) -> None:
        tries.append(name)
        raise OSError("AWS Error NETWORK_CONNECTION: injected")

    monkeypatch.setattr(failing, "create_dir", down, raising=False)
    with pytest.raises(CannotWrite, match="the same command goes on from there"):
        Folder("s3://bucket/r").write_bytes("a", b"x")
    assert len(tries) == 1 + len(storage.PAUSES_S)


def test_a_missing_file_is_not_waited_for(failing: Failing) -> None:
    with pytest.raises(FileNotFoundError):
        Folder("s3://bucket/r").read_bytes("none")
    assert failing.num_calls == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://KEY:SECRET@bucket/x?region=eu", "s3://bucket/x?region=eu"),
        ("s3://KEY:a/b+c@bucket/x", "s3://bucket/x"),  # the / should be a %2F: refused, and told
        ("gs://bucket/x?access_token=T&project=p", "gs://bucket/x?access_token=***&project=p"),
        ("https://h/x?X-Amz-Signature=S&sig=T", "https://h/x?X-Amz-Signature=***&sig=***"),
        ('{"data": "s3://K:S@b/x", "at": "me@home"}', '{"data": "s3://b/x", "at": "me@home"}'),
        ("data: s3://K:S@b/x?Secret_Key=S\nname: a", "data: s3://b/x?Secret_Key=***\nname: a"),
        ("s3://b/x is not t@ken", "s3://b/x is not t@ken"),
        ("http://host:9000/a@b/기쁨", "http://host:9000/a@b/기쁨"),
        ("toy:num=2000,wrong=0.05", "toy:num=2000,wrong=0.05"),
        ("faces/a:b@c", "faces/a:b@c"),
    ],
)
def test_what_is_told_of_a_uri_has_no_secrets(text: str, told: str) -> None:
    assert without_secrets(text) == told
