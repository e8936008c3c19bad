"""Run raylab on a Ray of several nodes on this machine: `nodes.py NUM_NODES ARGUMENTS…`."""

import sys

from ray.cluster_utils import Cluster

from raylab.cli import app


def main() -> None:
    cluster = Cluster()
    for _ in range(int(sys.argv[1])):
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
    try:
        app([*sys.argv[2:], "--address", cluster.address])
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
