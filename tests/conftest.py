"""What several test files share."""

from collections.abc import Iterator

import pytest

from raylab.sweep.cluster import connected


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray on this machine, started as raylab starts it, for the whole test session."""
    with connected(None):
        yield
