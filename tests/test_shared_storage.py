"""A cluster whose nodes do not see the same folders is refused before the sweep."""

from pathlib import Path

import pytest

from raylab.errors import Refused
from raylab.images.source import Source, scan
from raylab.images.toy import write_folder
from raylab.storage import Folder
from raylab.sweep import shared_storage
from raylab.sweep.cluster import Capacity
from raylab.sweep.shared_storage import refuse_unshared, unseen

TWO_NODES = Capacity(((1, 0), (1, 0)))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Source:
    place = tmp_path_factory.mktemp("faces")
    write_folder(place / "faces", num=14, wrong=0.0, seed=0)
    return scan(str(place / "faces"))


def test_a_node_that_does_not_see_the_folders_is_named_with_what_to_do(
    faces: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_is_blind(paths: list[str], can_grow: bool) -> dict[str, list[str]]:
        assert unseen(paths) == []  # the files that are looked for do exist here
        return {"worker-3 (10.0.0.3)": paths}

    monkeypatch.setattr(shared_storage, "blind_nodes", one_is_blind)
    results, cache = Folder(tmp_path / "results"), Folder(tmp_path / "cache")
    with pytest.raises(Refused) as refusal:
        refuse_unshared(results, cache, faces, TWO_NODES)
    text = str(refusal.value)
    assert f"results  {results.location} is not seen by worker-3 (10.0.0.3); give --results" in text
    assert "set RAYLAB_CACHE to s3://" in text
    assert f"data  {faces.location} is not seen by" in text
    assert text.endswith("no trial was started.")
    assert not results.names()  # what was looked for is gone again
    assert not cache.names()


def test_what_is_behind_a_uri_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_storage, "blind_nodes", lambda *_: pytest.fail("asked"))
    remote = Folder("s3://bucket/x")
    refuse_unshared(remote, remote, scan("toy:num=140"), TWO_NODES)


def test_one_node_is_not_asked(
    faces: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_storage, "blind_nodes", lambda *_: pytest.fail("asked"))
    folder = Folder(tmp_path)
    refuse_unshared(folder, folder, faces, Capacity(((2, 0),)))


def test_nodes_that_see_the_folders_are_asked_and_let_through(
    ray_local: None, faces: Source, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    refuse_unshared(folder, folder, faces, TWO_NODES)
    assert len(shared_storage.blind_nodes([str(tmp_path / "nothing")], can_grow=False)) == 1
