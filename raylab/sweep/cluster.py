"""From an address to a connected Ray and what it can hold; stops what it started."""

import logging
import math
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

import raylab
from raylab.config.sweep import Resources
from raylab.errors import CannotFinish, Problem, Refused
from raylab.machine import num_cpus
from raylab.sweep.growth import Nodes, possible_workers

# So many trials ask an autoscaler for nodes at once, and are planned where it does not say how many
# it may bring.
MIN_SLOTS_OF_GROWING = 16
REACH_TIMEOUT_S = 10.0
# The rest of the object store is left to Ray's own messages, checkpoints and worker groups.
OBJECT_STORE_FRAC = 0.6

# Ray reads these when it starts: Tune prints nothing and logs to no file of its own (the records
# are ours), a failed trial may report without the metric, workers of a trial report within 0.1 s,
# and a task that no memory holds is not begun again and again without end.
RAY_SWITCHES = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_task_oom_retries": "5",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "120",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": str(MIN_SLOTS_OF_GROWING),
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# Of a Ray on this machine alone. After a kill -9 of raylab its agents would look for the head for a
# minute; a laptop that slept, or is busy, would give up its only node for missed heartbeats; and
# no cloud takes it away with a notice, for which each worker group would start a watching process.
# The first processes import what decodes images while the sweep still gets ready.
LOCAL_SWITCHES = {
    "RAY_preload_python_modules": "raylab.images.parts,pandas",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    "RAY_health_check_failure_threshold": "100",
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the connected Ray has."""

    nodes: Nodes
    """Of each node that is there."""
    workers: Nodes = ()
    """Of each node that an autoscaler may bring, those included that it has brought."""
    object_store_bytes: float = math.inf
    """Of the node that has the least; infinite while there is none."""

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)

    @property
    def can_grow(self) -> bool:
        """Whether an autoscaler may bring nodes. One that says nothing is known by a cluster that
        has no CPU for trials, as cluster.yaml's head.
        """
        return bool(self.workers) or not any(cpus for cpus, _ in self.nodes)

    @property
    def at_most(self) -> Nodes:
        """Of each node that there may be."""
        now, grown = (sum(cpus for cpus, _ in nodes) for nodes in (self.nodes, self.workers))
        return self.workers if grown > now else self.nodes

    @property
    def has_gpus(self) -> bool:
        return any(gpus for _, gpus in (*self.nodes, *self.workers))


@dataclass(frozen=True, slots=True)
class Slot:
    """What one trial takes, and how many trials fit side by side."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    num_slots: int


@contextmanager
def connected(address: str | None) -> Iterator[Capacity]:
    """Join the Ray at `address`, or start one on this machine and stop it at the end.

    A Ray that this process has joined already (in a notebook, say) is used and left as it is.
    Raises CannotFinish when there is no Ray at the address, or none comes up here.
    """
    if address and address.startswith("ray://"):
        text = "a sweep cannot run through Ray Client; give host:port of the head, or auto on it"
        raise Refused([Problem(f"--address {address}", text)], "the options")
    switches = RAY_SWITCHES if address else RAY_SWITCHES | LOCAL_SWITCHES
    os.environ.update({key: os.environ.get(key, value) for key, value in switches.items()})
    if ray.is_initialized():
        yield capacity_now()
        return
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    quiet_ray()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ships = address is not None and RAY_JOB_CONFIG_JSON_ENV_VAR not in os.environ  # a job has it
    runtime_env = {"env_vars": RAY_SWITCHES, **(with_raylab() if ships else {})}
    try:
        if address:
            check_reachable(address)
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
            runtime_env=runtime_env if address else None,  # this machine's inherit os.environ
            num_cpus=num_cpus() if address is None else None,
        )
    except Exception as error:  # a bare one says that Ray's own processes came up too slowly
        raise CannotFinish(f"{no_ray(address)}: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it, and would exit at once
    try:
        yield capacity_now()
    finally:
        ray.shutdown()


def no_ray(address: str | None) -> str:
    """What is missing, and what to do about it."""
    if address is None:
        return (
            "a local Ray did not start; nothing was lost. Run the command again when this machine "
            "has cores and memory to spare. Ray's own words"
        )
    return (
        f"the Ray at {address} could not be reached. Check the address (--address or RAY_ADDRESS) "
        "and the token (RAY_AUTH_TOKEN), or leave both away to run on this machine. Ray's own words"
    )


def with_raylab() -> dict[str, Any]:
    """The runtime environment that brings the caller's own raylab to every node of a cluster."""
    return {
        "py_modules": [str(Path(raylab.__file__).parent)],
        "excludes": ["**/__pycache__", "*.pyc"],
    }


def check_reachable(address: str) -> None:
    """ConnectionError or TimeoutError within seconds; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()


def capacity_now() -> Capacity:
    """What the Ray that this process has joined holds, or may grow to hold."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive)
    store = min((node.get("object_store_memory", math.inf) for node in alive), default=math.inf)
    return Capacity(nodes, possible_workers(), store)


def image_memory_bytes(resources: Resources, capacity: Capacity) -> float:
    """How much of a node's memory prepared images may take."""
    if resources.image_memory_gb == "auto":
        return OBJECT_STORE_FRAC * capacity.object_store_bytes
    return resources.image_memory_gb * 1e9


def quiet_ray() -> None:
    """Only what went wrong is heard of Ray's own loggers; raylab tells the story."""
    for name in ("ray", "ray.tune", "ray.train", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors reach raylab as well
    data_context = ray.data.DataContext.get_current()
    data_context.enable_progress_bars = False
    data_context.print_on_execution_start = False


def slot_for(resources: Resources, capacity: Capacity) -> Slot:
    """How many trials run side by side so that none waits for a CPU that another holds.

    Raises Refused when not even one trial fits, unless the cluster may grow by nobody knows what.
    """
    workers, cpus = resources.workers, resources.cpus
    one_each = 1.0 if capacity.has_gpus else 0.0
    gpus = one_each if resources.gpus == "auto" else resources.gpus / workers
    num_slots = sum(places(node, cpus, gpus) for node in capacity.at_most) // workers
    if capacity.can_grow and not capacity.workers:
        num_slots = MIN_SLOTS_OF_GROWING
    if num_slots < 1:
        has = " + ".join(f"{c:g} CPUs and {g:g} GPUs" for c, g in capacity.at_most)
        each = f"{cpus:g} CPUs and {gpus:g} GPUs"
        wants = each if workers == 1 else f"{workers} x {each}"
        text = f"one trial wants {wants}, Ray has {has}; lower workers, cpus or gpus"
        raise Refused([Problem("resources", text)], "the resources")
    return Slot(workers, cpus, gpus, min(num_slots, resources.max_concurrent or num_slots))


def places(node: tuple[float, float], cpus: float, gpus: float) -> int:
    """How many workers of that size one node holds."""
    fits = whole(node[0] / cpus)
    if 0 < gpus < 1:  # Ray lays no fraction across two GPUs
        return min(fits, int(node[1]) * whole(1 / gpus))
    return min(fits, whole(node[1] / gpus)) if gpus else fits


def whole(quotient: float) -> int:
    """Rounded down, but 1 / 0.2, which is not quite 5, is 5."""
    return math.floor(quotient + 1e-9)
