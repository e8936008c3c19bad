"""How many trials run side by side on what Ray has."""

from typing import Any

import pytest

from raylab.config.sweep import Resources
from raylab.errors import CannotFinish, Refused
from raylab.sweep.cluster import MIN_SLOTS_OF_GROWING, Capacity, connected, slot_for
from raylab.sweep.growth import WORKERS, possible_workers, workers_of


@pytest.mark.parametrize(
    ("wanted", "nodes", "num_slots", "gpus_per_worker"),
    [
        ({}, [(2, 0)], 2, 0),
        ({"cpus": 2}, [(5, 0)], 2, 0),
        ({"cpus": 2}, [(3, 0), (3, 0)], 2, 0),
        ({"workers": 2}, [(5, 0)], 2, 0),
        ({"workers": 2}, [(1, 0), (1, 0)], 1, 0),
        ({}, [(16, 4)], 4, 1),
        ({"workers": 2}, [(16, 4)], 2, 1),
        ({"gpus": 0.25}, [(16, 1)], 4, 0.25),
        ({"gpus": 0.2}, [(16, 1)], 5, 0.2),
        ({"gpus": 0.4}, [(16, 2)], 4, 0.4),
        ({"gpus": 0.4}, [(3, 2)], 3, 0.4),
        ({"gpus": 0.0}, [(16, 1)], 16, 0),
        ({"workers": 2, "gpus": 4.0}, [(64, 8)], 2, 2),
        ({"max_concurrent": 3}, [(5, 0)], 3, 0),
        ({"max_concurrent": 9}, [(5, 0)], 5, 0),
    ],
)
def test_slots_never_hold_more_than_there_is(
    wanted: dict[str, Any],
    nodes: list[tuple[float, float]],
    num_slots: int,
    gpus_per_worker: float,
) -> None:
    slot = slot_for(Resources(**wanted), Capacity(tuple(nodes)))
    assert (slot.num_slots, slot.gpus_per_worker) == (num_slots, gpus_per_worker)


def test_a_trial_that_never_fits_is_refused_with_both_sides_named() -> None:
    with pytest.raises(Refused, match="wants 4 x 2 CPUs and 0 GPUs, Ray has 2 CPUs and 0 GPUs"):
        slot_for(Resources(workers=4, cpus=2), Capacity(((2, 0),)))
    with pytest.raises(Refused, match="wants 4 CPUs"):  # no single node holds it
        slot_for(Resources(cpus=4), Capacity(((2, 0), (2, 0))))


def test_a_cluster_that_starts_from_nothing_is_asked_for_several_nodes() -> None:
    assert slot_for(Resources(), Capacity(((0, 0),))).num_slots == MIN_SLOTS_OF_GROWING


@pytest.mark.parametrize(
    ("nodes", "num_slots"),
    [
        ([(0, 0)], 8),
        ([(0, 0), (8, 1)], 8),  # one that an earlier sweep has left over
        ([(64, 8), (64, 8)], 16),  # more than the autoscaler could bring
    ],
)
def test_slots_are_planned_for_all_workers_that_an_autoscaler_may_bring(
    nodes: list[tuple[float, float]], num_slots: int
) -> None:
    capacity = Capacity(tuple(nodes), workers=((8, 1),) * 8)
    slot = slot_for(Resources(), capacity)
    assert (slot.num_slots, slot.gpus_per_worker) == (num_slots, 1)
    with pytest.raises(Refused, match="wants 2 CPUs and 2 GPUs"):
        slot_for(Resources(cpus=2, gpus=2), Capacity(((0, 0),), workers=((8, 1),) * 8))


def test_the_workers_of_a_cluster_file_are_those_that_it_may_have_at_once() -> None:
    kinds = {
        "head": {"resources": {"CPU": 4}},
        "plain": {"resources": {"CPU": 16}, "max_workers": 5},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
        "unknown": {"resources": {}},
    }
    file = {"max_workers": 4, "head_node_type": "head", "available_node_types": kinds}
    assert workers_of(file) == ((8, 1), (8, 1), (16, 0), (16, 0))
    assert workers_of({"provider": {"type": "local"}}) == ()


def test_the_environment_can_tell_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, "3x8x1")
    assert possible_workers() == ((8, 1),) * 3
    monkeypatch.setenv(WORKERS, "many")
    with pytest.raises(Refused, match="RAYLAB_WORKERS  'many' is not NUMBERxCPUSxGPUS"):
        possible_workers()


def test_ray_client_is_refused() -> None:
    with pytest.raises(Refused, match="Ray Client"), connected("ray://head:10001"):
        pass


def test_an_address_without_a_ray_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have a Ray
    with pytest.raises(CannotFinish, match="--address or RAY_ADDRESS"), connected("127.0.0.1:1"):
        pass


def test_a_local_ray_takes_the_cpus_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started(num_cpus: int, **given: Any) -> None:
        raise Exception(f"of {num_cpus} CPUs")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", started)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {5}, raising=False)
    with pytest.raises(CannotFinish, match="of 1 CPUs"), connected(None):
        pass


def test_a_local_ray_that_does_not_come_up_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_slow(**given: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", too_slow)
    said = r"again when this machine .* timed out"
    with pytest.raises(CannotFinish, match=said), connected(None):
        pass
