"""How many trials run side by side on what Ray has."""

from typing import Any

import pytest

from raylab.config.sweep import Resources
from raylab.errors import CannotFinish, Refused
from raylab.sweep.cluster import MIN_SLOTS_OF_GROWING, Capacity, connected, slot_for


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


def test_a_cluster_that_starts_from_nothing_is_asked_for_several_nodes_and_their_gpus() -> None:
    slot = slot_for(Resources(), Capacity(((0, 0),), can_grow=True, may_have_gpus=True))
    assert (slot.num_slots, slot.gpus_per_worker) == (MIN_SLOTS_OF_GROWING, 1)


def test_ray_client_is_refused() -> None:
    with pytest.raises(Refused, match="Ray Client"), connected("ray://head:10001"):
        pass


def test_an_address_without_a_ray_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have a Ray
    with pytest.raises(CannotFinish, match="--address or RAY_ADDRESS"), connected("127.0.0.1:1"):
        pass
