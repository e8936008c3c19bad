"""Whether all nodes of a cluster see the same folders: asked of the nodes, before the sweep."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.errors import Problem, Refused
from raylab.images.source import Source
from raylab.storage import Folder
from raylab.sweep.cluster import Capacity


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of this machine that all nodes have to see, and a file in it that shows it."""

    what: str
    location: str
    witness: str
    advice: str


def refuse_unshared(results: Folder, cache: Folder, source: Source, capacity: Capacity) -> None:
    """Refused where a node does not see the results, the prepared images, or the images.

    A cluster that has no node for trials yet is asked for one, and that one is asked.
    """
    if capacity.num_nodes < 2 and not capacity.can_grow:
        return
    with witnessed(results) as of_results, witnessed(cache) as of_cache:
        places = [
            Place("results", results.location, of_results, "give --results s3://…"),
            Place("cache", cache.location, of_cache, "set RAYLAB_CACHE to s3://…"),
            Place("data", source.location, witness_of(source), "give --data s3://…"),
        ]
        places = [place for place in places if place.witness]
        blind = blind_nodes([p.witness for p in places], capacity.can_grow) if places else {}
    problems = [
        Problem(
            place.what,
            f"{place.location} is not seen by {', '.join(nodes)}; {place.advice}, "
            "or a folder that every node mounts",
        )
        for place in places
        if (nodes := [node for node, unseen in blind.items() if place.witness in unseen])
    ]
    if problems:
        raise Refused(problems, "the cluster's storage")


@contextmanager
def witnessed(folder: Folder) -> Iterator[str]:
    """The path of a file that stands in the folder for so long; empty for one behind a URI."""
    if not folder.is_local:
        yield ""
        return
    name = f"seen-by-all-{secrets.token_hex(8)}"
    folder.write_bytes(name, b"")
    try:
        yield folder.path_of(name)
    finally:
        folder.delete(name)


def witness_of(source: Source) -> str:
    """The first image that is a file of this machine; empty where there is none."""
    for file in source.table["file"].to_pylist():
        if file:
            folder = Folder(Path(file).parent) if "://" not in file else Folder(file)
            return os.path.abspath(file) if folder.is_local else ""
    return ""


def blind_nodes(paths: list[str], can_grow: bool) -> dict[str, list[str]]:
    """Per node, by its address, which of the paths it does not see; nodes that see all are left
    out, and so is one that is lost meanwhile.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(unseen)
    asked: dict[str, Any] = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            asked[f"{name}#{node['NodeID']}"] = task.options(scheduling_strategy=there).remote(
                paths
            )
    if can_grow:
        asked["a new worker"] = task.options(num_cpus=1).remote(paths)
    found = {name.partition("#")[0]: answer(asked[name]) for name in asked}
    return {name: missing for name, missing in found.items() if missing}


def answer(reply: Any) -> list[str]:
    """What the node said; nothing from one that was lost before it could."""
    try:
        return list(ray.get(reply))
    except RayError:
        return []


def unseen(paths: Iterable[str]) -> list[str]:
    """Those of the paths that are no file here."""
    return [path for path in paths if not os.path.isfile(path)]
