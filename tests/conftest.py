"""What several test files share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished_sweep import run, write_faces

from raylab.sweep.cluster import connected


def pytest_configure() -> None:
    """xdist's workers ignore Ctrl-C, and so would every sweep that their tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray on this machine, started as raylab starts it, for the whole test session."""
    with connected(None):
        yield


@pytest.fixture(scope="session")
def finished(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces.csv, a cache, and the results of a finished sweep: to be read only."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(place / "cache"))
        write_faces(place)
        assert run(place).exit_code == 0
    return place
