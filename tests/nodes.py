"""A Ray cluster of several nodes on this machine, in a process beside the tests.

As a script, `nodes.py NUM_NODES`: prints its address, then adds or kills a node for every line
`add` or `kill` on stdin, and answers each with a line.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 100 * 2**20


class Nodes:
    """The cluster as the tests see it: one CPU on each node, the first one is the head."""

    def __init__(self, num_nodes: int, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(num_nodes)],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def add(self) -> None:
        self._say("add")

    def kill(self) -> None:
        """The node that joined last, with -9 and without a word to the others."""
        self._say("kill")

    def lose_head(self) -> None:
        """All nodes with -9: Ray's processes share the fate of the one that started them."""
        self.process.kill()
        self.process.wait()

    def _say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        assert self._answer() == text

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
    joined = [_join(cluster) for _ in range(num_nodes)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "add":
            joined.append(_join(cluster))
        else:
            cluster.remove_node(joined.pop(), allow_graceful=False)
        print(line.strip(), flush=True)
    cluster.shutdown()


def _join(cluster: Cluster) -> object:
    return cluster.add_node(
        num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]))
