"""How far a cluster may grow: the nodes that its autoscaler may bring, of which Ray says nothing.

The autoscaler runs on the head with a file (`ray up` writes ~/ray_bootstrap_config.yaml there);
on Kubernetes, where it runs in a container of its own, the manifest says it in WORKERS.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.errors import Problem, Refused

WORKERS = "RAYLAB_WORKERS"
"""`8x16x1`: at most 8 workers of 16 CPUs and 1 GPU."""
HEAD = "node:__internal_head__"
MONITOR, OPTION, GCS = "monitor.py", "--autoscaling-config=", "--gcs-address="

Nodes = tuple[tuple[float, float], ...]
"""Logical (CPUs, GPUs) of each."""


def possible_workers() -> Nodes:
    """Every worker that the joined cluster's autoscaler may have at once; none where nothing says
    so, or without an autoscaler.
    """
    if given := os.environ.get(WORKERS):
        return told(given)
    head = next((n["NodeID"] for n in ray.nodes() if n["Alive"] and HEAD in n["Resources"]), None)
    if head is None:
        return ()
    address = ray.get_runtime_context().gcs_address
    if head == ray.get_runtime_context().get_node_id():
        return workers_on_head(address)
    there = NodeAffinitySchedulingStrategy(head, soft=False)
    ask = ray.remote(num_cpus=0, max_retries=0)(workers_on_head)
    try:
        found: Nodes = ray.get(ask.options(scheduling_strategy=there).remote(address))
    except RayError:  # a head that cannot be asked still has the nodes that are there
        return ()
    return found


def told(given: str) -> Nodes:
    """The workers that WORKERS tells of; Refused where it cannot be read."""
    try:
        num, cpus, gpus = (int(part) for part in given.split("x"))
    except ValueError:
        text = f"{given!r} is not NUMBERxCPUSxGPUS of the workers, such as 8x16x1"
        raise Refused([Problem(WORKERS, text)], "the environment") from None
    return ((float(cpus), float(gpus)),) * num


def workers_on_head(gcs_address: str) -> Nodes:
    """From the file of the autoscaler that runs on this machine for the cluster at the address."""
    port = gcs_address.rpartition(":")[2]
    for process in Path("/proc").glob("[0-9]*"):
        command = command_of(process)
        file = next((part for part in command if part.startswith(OPTION)), None)
        is_monitor = any(part.endswith(MONITOR) for part in command)
        is_ours = any(part.startswith(GCS) and part.endswith(f":{port}") for part in command)
        if file and is_monitor and is_ours:
            path = Path(os.path.expanduser(file.removeprefix(OPTION)))
            return workers_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    return ()


def command_of(process: Path) -> list[str]:
    """The command line of a process below /proc; empty where it has ended or is another user's."""
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def workers_of(config: Mapping[str, Any]) -> Nodes:
    """The workers of a cluster file, the ones with most GPUs, then CPUs first; without those of
    which it does not say how many CPUs they have.
    """
    most = int(config.get("max_workers", 0))
    found = []
    for name, kind in config.get("available_node_types", {}).items():
        has = kind.get("resources") or {}
        if name != config.get("head_node_type") and has.get("CPU"):
            worker = (float(has["CPU"]), float(has.get("GPU", 0)))
            found += [worker] * min(int(kind.get("max_workers", most)), most)
    return tuple(sorted(found, key=lambda worker: (worker[1], worker[0]), reverse=True)[:most])
