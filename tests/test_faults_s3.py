"""Images and results behind s3:// (moto's server) for three nodes with groups of two workers; a
storage that fails every third call; trials that go on from there; nodes that share no storage.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import Run, write_grid
from mocked_aws import CREDENTIALS, Front, in_front_of, moto_server, request
from nodes import Nodes, several_nodes

from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.storage import Folder, _open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PAIRS = "axes: {lr: [1.0e-2, 1.0e-3]}\nresources: {workers: 2}\n"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A storage with 140 toy faces in s3://faces/all, which can be made to fail."""
    with moto_server() as port, pytest.MonkeyPatch.context() as patch:
        front = Front(port)
        with in_front_of(front) as port_in_front:
            region = {"AWS_DEFAULT_REGION": "us-east-1"}
            url = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port_in_front}"}
            for name, value in (CREDENTIALS | region | url).items():
                patch.setenv(name, value)
            for bucket in ("faces", "results"):
                assert request(port, "PUT", f"/{bucket}") == 200
            _open.cache_clear()
            yield front
            _open.cache_clear()


@pytest.fixture(scope="module")
def images(front: Front, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("faces")
    write_folder(place, num=140, wrong=0.0, seed=0)
    folder = Folder("s3://faces/all")
    for path in sorted(place.rglob("*.png")):
        folder.write_bytes(str(path.relative_to(place)), path.read_bytes())
    return folder.location


@pytest.fixture(scope="module")
def nodes(front: Front) -> Iterator[Nodes]:
    with several_nodes(3) as nodes:
        yield nodes


def test_three_nodes_with_groups_of_two_share_nothing_but_an_s3_that_fails_every_third_call(
    front: Front, nodes: Nodes, images: str, tmp_path: Path
) -> None:
    grid, place = write_grid(tmp_path, PAIRS), "s3://results/failing"
    there = ("--data", images, "--results", place)
    front.fails = True
    run = Run(tmp_path, "sweep", grid, *there, "--address", nodes.address, RAYLAB_CACHE="")
    code = run.wait()
    front.fails = False
    assert code == 0, run.story
    assert "Traceback" not in run.story
    assert front.num_failed > 20
    results = ResultsDirectory(place)
    board = results.leaderboard().to_pylist()
    assert [(row["status"], row["num_workers"]) for row in board] == [("complete", 2)] * 2
    for row in board:
        assert results.predictions(row["trial_id"]).num_rows == row["num_val"]
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # nothing was kept here
    run.check_nothing_is_left()


def test_trials_of_a_killed_driver_go_on_from_their_states_on_an_s3_that_fails(
    front: Front, images: str, tmp_path: Path
) -> None:
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3, 1.0e-4]}\n")
    place = "s3://results/killed"
    command = ("sweep", grid, "--data", images, "--results", place, "--set", "trial.epochs=60")
    folder = ResultsDirectory(place).folder
    front.fails = True
    first = Run(tmp_path, *command, RAYLAB_CHECKPOINT_EVERY_S="0.2")
    assert first.until(lambda: len(folder.names("states/")) == 2), first.story
    first.kill()
    again = Run(tmp_path, *command)
    code = again.wait()
    front.fails = False
    assert code == 0, again.story
    board = ResultsDirectory(place).leaderboard().to_pylist()
    assert [(row["num_restarts"], row["num_epochs"]) for row in board] == [(1, 60)] * 2
    assert not folder.names("states/")
    first.check_nothing_is_left(timeout_s=90)
