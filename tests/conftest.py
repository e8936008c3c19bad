"""What several test files share."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished_sweep import run, write_faces

from raylab.sweep.cluster import connected


def pytest_configure() -> None:
    """A job in a shell's background ignores Ctrl-C, and so would every sweep that it starts."""
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


@pytest.fixture(scope="module")
def finished_copy(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `finished` to write in; it learned from where that was."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("finished") / "copy"))
