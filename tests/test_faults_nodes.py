"""Nodes of a cluster that die under a sweep, the head too, and prepared images that Ray loses."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from faults import Run, assert_learned_the_same, board_of, states, write_grid
from nodes import several_nodes
from ray import cloudpickle
from ray.exceptions import ObjectLostError

from raylab.config.grid import read_grid
from raylab.images.prepare import Variant
from raylab.sweep import shards
from raylab.sweep.runner import Options, run_sweep
from raylab.sweep.shards import dataset_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
GRID = "axes: {lr: [1.0e-2, 1.0e-3], epochs: [400]}\nseeds: [0, 1]\n"
OFTEN = {"RAYLAB_CHECKPOINT_EVERY_S": "0.2"}


@pytest.fixture(scope="module")
def place(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the grid, its prepared images, and `whole`: a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("nodes")
    write_grid(place, GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(place / "cache"))
        sweep_into(place / "whole")
        yield place


def sweep_into(results: Path) -> None:
    options = Options(str(results), quiet=True)
    assert run_sweep(read_grid(results.parent / "grid.yaml"), options).exit_code == 0


def test_a_node_that_dies_costs_a_restart_and_one_that_joins_is_used(place: Path) -> None:
    with several_nodes(3, **OFTEN) as nodes:
        address = ("--address", nodes.address)
        run = Run(place, "sweep", "grid.yaml", "--results", "node", *address)
        # A process alone may be one whose trial has ended, on a node that another waits for.
        assert run.until(lambda: 2 <= nodes.num_busy() == len(states(place / "node"))), run.story
        nodes.kill()
        nodes.add()
        assert run.until(lambda: nodes.num_busy() == 3), run.story
        assert run.wait() == 0, run.story
    lost = r"the node of the trial (was lost|cannot be reached); it is started again"
    assert re.search(lost, run.story), run.story
    assert board_of(place / "node")["num_restarts"].sum() >= 1, run.story
    assert "Traceback" not in run.story
    assert_learned_the_same(place / "node", place / "whole", "num_restarts")


def test_a_lost_head_ends_the_sweep_and_on_a_new_cluster_it_goes_on(place: Path) -> None:
    with several_nodes(2) as nodes:
        run = Run(place, "sweep", "grid.yaml", "--results", "head", "--address", nodes.address)
        records = place / "head" / "records"
        assert run.until(lambda: records.is_dir() and list(records.iterdir())), run.story
        nodes.lose_head()
        assert run.wait(150) == 1, run.story
    finished = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    assert len(finished) < 4
    run.check_nothing_is_left()
    with several_nodes(2) as nodes:
        run = Run(place, "sweep", "grid.yaml", "--results", "head", "--address", nodes.address)
        assert run.wait() == 0, run.story
    now = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    assert now.items() >= finished.items()
    assert_learned_the_same(place / "head", place / "whole")


class Passing:
    """Who owns a dataset's blocks takes them along when it ends."""

    def dataset_of(self, variant: Variant) -> ray.data.Dataset:
        return dataset_of(variant)


def is_lost(dataset: ray.data.Dataset) -> bool:
    try:
        ray.get(dataset.to_arrow_refs())
    except ObjectLostError:
        return True
    return False


def lost_dataset_of(variant: Variant) -> ray.data.Dataset:
    owner = ray.remote(Passing).options(num_cpus=0).remote()
    dataset = ray.get(owner.dataset_of.remote(variant))
    ray.kill(owner)
    while not is_lost(dataset):
        time.sleep(0.1)
    return dataset


def test_prepared_images_that_ray_loses_are_read_from_their_files(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(shards, "dataset_of", lost_dataset_of)
    sweep_into(place / "lost")
    assert_learned_the_same(place / "lost", place / "whole")
