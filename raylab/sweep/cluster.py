"""From an address to a connected Ray and what it can hold; stops what it started."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from raylab.config.sweep import Resources
from raylab.errors import CannotFinish, Problem, Refused

# An autoscaled cluster starts with no worker at all: so many trials ask for nodes at once.
MIN_SLOTS_OF_GROWING = 16

# Ray reads these when it starts: Tune prints nothing and logs to no file of its own (the records
# are ours), a failed trial may report without the metric, workers of a trial report within 0.1 s.
RAY_SWITCHES = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": str(MIN_SLOTS_OF_GROWING),
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the connected Ray has: logical CPUs and GPUs over all nodes."""

    cpus: float
    gpus: float
    num_nodes: int
    can_grow: bool = False
    """Whether an autoscaler may bring more nodes when trials wait for them."""


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
    Raises CannotFinish when there is no Ray at the address.
    """
    if ray.is_initialized():
        yield capacity_now()
        return
    os.environ.update({key: os.environ.get(key, value) for key, value in RAY_SWITCHES.items()})
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    quiet_ray()
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
            runtime_env={"env_vars": RAY_SWITCHES},
            num_cpus=os.cpu_count() if address is None else None,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray at {address}" if address else "a local Ray"
        raise CannotFinish(
            f"{where} could not be reached: {error}\n"
            "Check the address (--address or RAY_ADDRESS) and the token (RAY_AUTH_TOKEN), "
            "or leave both away to run on this machine."
        ) from error
    try:
        yield capacity_now()
    finally:
        ray.shutdown()


def capacity_now() -> Capacity:
    """What the Ray that this process has joined holds."""
    total = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    return Capacity(cpus, gpus, len(nodes), can_grow=cpus == 0)  # cluster.yaml's head has no CPU


def quiet_ray() -> None:
    """Only what went wrong is heard of Ray's own loggers; raylab tells the story."""
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    data_context = ray.data.DataContext.get_current()
    data_context.enable_progress_bars = False
    data_context.print_on_execution_start = False


def slot_for(resources: Resources, capacity: Capacity) -> Slot:
    """How many trials run side by side so that none waits for a CPU that another holds.

    Raises Refused when not even one trial fits, unless the cluster may grow.
    """
    workers, cpus = resources.workers, resources.cpus
    one_each = 1.0 if capacity.gpus else 0.0
    gpus = one_each if resources.gpus == "auto" else resources.gpus / workers
    fits = [capacity.cpus // (workers * cpus)]
    if gpus:
        fits.append(capacity.gpus // (workers * gpus))
    num_slots = int(min(fits))
    if capacity.can_grow:
        num_slots = max(num_slots, MIN_SLOTS_OF_GROWING)
    if num_slots < 1:
        has = f"{capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
        wants = f"{workers * cpus:g} CPUs and {workers * gpus:g} GPUs"
        text = f"one trial wants {wants}, Ray has {has}; lower workers, cpus or gpus"
        raise Refused([Problem("resources", text)], "the resources")
    return Slot(workers, cpus, gpus, num_slots)
