"""Why a trial failed, from what its own code raised; for the processes that train."""

from ray.exceptions import RayError
from ray.train import WorkerGroupError

from raylab.sweep.cluster import Slot
from raylab.sweep.failures import (
    DIVERGED,
    OUT_OF_MEMORY,
    OUT_OF_MEMORY_TEXT,
    PEER_GONE,
    WEIGHTS,
    Failure,
)
from raylab.training.loop import DivergedError
from raylab.training.memory import is_out_of_memory

# What a config can do wrong; everything else is the machine's, and another try may heal it.
CONFIG_ERRORS = (DivergedError, ValueError, KeyError, TypeError, FileNotFoundError, RuntimeError)
_OF_WEIGHTS = ("weights file ", "package ", "pretrained: ")


def failure_of(error: Exception) -> Failure:
    """What the trial's own code raised."""
    text = str(error).strip().splitlines()[-1][:500] if str(error).strip() else ""
    if isinstance(error, DivergedError):
        kind = DIVERGED
    elif isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (is_out_of_memory(error) or OUT_OF_MEMORY_TEXT.search(str(error)))
    ):
        kind = OUT_OF_MEMORY
    elif text.startswith(_OF_WEIGHTS):
        kind = WEIGHTS
    else:
        kind = type(error).__name__
    return Failure(kind, text or kind)


def is_crowded(error: Exception, slot: Slot) -> bool:
    """Whether memory ran out on a GPU that others share: once they need less, it may suffice."""
    return 0 < slot.gpus_per_worker < 1 and is_out_of_memory(error)


def cause_of(error: WorkerGroupError) -> Exception | None:
    """The config's own error in a worker group; None where a process or node was lost.

    When one worker is killed, the others may fail before Ray has missed it.
    """
    causes = [getattr(e, "_base_exc", e) for e in error.worker_failures.values()]
    own = [e for e in causes if isinstance(e, CONFIG_ERRORS) and not isinstance(e, RayError)]
    return next((e for e in own if not PEER_GONE.search(str(e))), None)
