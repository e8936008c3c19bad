"""A Ray cluster of several nodes on this machine, in a process beside the tests.

As a script, `nodes.py NUM_NODES`: prints its address, then answers every line on stdin with a line.
`add` is a new node, `kill` takes one away on which a trial runs, `busy` tells how many have trials.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults import command_of, living
from ray._private.node import Node
from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 100 * 2**20
TRIAL = b"ray::ImplicitFunc"


class Nodes:
    """The cluster as the tests see it: one CPU on each node, the first one is the head."""

    def __init__(self, num_nodes: int, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(num_nodes)],
            # A node that is gone is missed after five seconds.
            env={**os.environ, "RAY_health_check_period_ms": "1000", **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def add(self) -> None:
        self._say("add")

    def kill(self) -> None:
        """One with a trial, but not the head, with -9 and without a word to the others."""
        assert self._say("kill") == "killed"

    def num_busy(self) -> int:
        """Nodes on which there is a trial's process."""
        return int(self._say("busy"))

    def lose_head(self) -> None:
        """All nodes with -9: Ray's processes share the fate of the one that started them."""
        self.process.kill()
        self.process.wait()

    def _say(self, text: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def several_nodes(num_nodes: int, **settings: str) -> Iterator[Nodes]:
    """A cluster for so long."""
    nodes = Nodes(num_nodes, **settings)
    try:
        yield nodes
    finally:
        nodes.process.communicate(timeout=60)  # its stdin ends


def serve(num_nodes: int) -> None:
    cluster = Cluster()
    for _ in range(num_nodes):
        add_to(cluster)
    print(cluster.address, flush=True)
    answers = {"add": add_to, "kill": kill_in, "busy": lambda cluster: len(busy(cluster))}
    for line in sys.stdin:
        print(answers[line.strip()](cluster), flush=True)
    cluster.shutdown()


def add_to(cluster: Cluster) -> str:
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False)
    return "added"


def kill_in(cluster: Cluster) -> str:
    for node in busy(cluster):
        if node is not cluster.head_node:
            cluster.remove_node(node, allow_graceful=False)
            return "killed"
    return "none is busy"


def busy(cluster: Cluster) -> list[Node]:
    parents = {parent_of(pid) for pid in living() if command_of(pid).startswith(TRIAL)}
    nodes = [cluster.head_node, *cluster.worker_nodes]
    return [node for node in nodes if node.all_processes["raylet"][0].process.pid in parents]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0  # it has just ended


if __name__ == "__main__":
    serve(int(sys.argv[1]))
