"""Why a trial ended without a result: from exceptions, or from what Ray says of a lost process."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.train import WorkerGroupError

from raylab.errors import CannotWrite
from raylab.results.record import Record
from raylab.training.loop import DivergedError

MAX_RESTARTS = 2
"""Of a trial whose own process fails or dies; it goes on from its last checkpoint."""
MAX_LOSSES = 20
"""Of the nodes under a trial: a spot market may take many, but a cluster that has none ends."""
FIRST_PAUSE_S = 2.0
MAX_FAILED_FROM_START = 3

# What a config can do wrong; everything else is the machine's, and another try may heal it.
CONFIG_ERRORS = (DivergedError, ValueError, KeyError, TypeError, FileNotFoundError, RuntimeError)
TIMEOUT, OUT_OF_MEMORY = "timeout", "OutOfMemory"
PROCESS_DIED, NODE_LOST, WEIGHTS = "ProcessDied", "NodeLost", "weights"
_OF_WEIGHTS = ("weights file ", "package ", "pretrained: ")

# In Ray's own words, since a lost process leaves no exception.
_NODE_LOST = re.compile(r"node (has )?died|node.{0,40}(was|is) (preempted|drained|dead)", re.I)
_OUT_OF_REACH = re.compile(r"actor .{0,80}is (temporarily )?unavailable", re.I)
_OUT_OF_MEMORY = re.compile(r"low on memory|out.of.memory|OutOfMemory|can't allocate memory", re.I)
_PROCESS_DIED = re.compile(r"actor (died|is dead)|worker.{0,30}died|ActorDied", re.I)
# Of the workers that are left when one of a group dies: gloo's words, and NCCL's.
_PEER_GONE = re.compile(r"gloo/transport|(reset|closed) by (remote )?peer|NCCL.{0,200}remote", re.I)
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?([A-Z]\w+)(?:: (.*))?$")

_task_failed = RayActorManager._actor_task_failed


@dataclass(frozen=True, slots=True)
class Failure:
    """`kind` groups failures at the end of a sweep, `text` says the cause in one line."""

    kind: str
    text: str

    @property
    def is_own(self) -> bool:
        """Whether it counts against the trial's tries; a node that was taken away does not."""
        return self.kind != NODE_LOST


def failure_of(error: Exception) -> Failure:
    """What the trial's own code raised."""
    text = str(error).strip().splitlines()[-1][:500] if str(error).strip() else ""
    if isinstance(error, DivergedError):
        kind = "diverged"
    elif isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))
    ):
        kind = OUT_OF_MEMORY
    elif text.startswith(_OF_WEIGHTS):
        kind = WEIGHTS
    else:
        kind = type(error).__name__
    return Failure(kind, text or kind)


def failure_in(story: str) -> Failure:
    """What Ray wrote of a process that ended: its traceback, or how it was lost."""
    lines = [line.strip() for line in story.strip().splitlines() if line.strip()]
    raised = [found for line in lines if (found := _EXCEPTION.match(line))]
    if "CannotWrite" in story:
        told = story.rpartition("CannotWrite: ")[2].strip().splitlines()[:2]
        return Failure(CannotWrite.__name__, "\n".join(told))
    if _NODE_LOST.search(story):
        return Failure(NODE_LOST, "the node of the trial was lost")
    if _OUT_OF_REACH.search(story):  # Ray says so of a node that it has not missed yet
        return Failure(NODE_LOST, "the node of the trial cannot be reached")
    if _OUT_OF_MEMORY.search(story):
        text = next(line for line in lines if _OUT_OF_MEMORY.search(line))
        return Failure(OUT_OF_MEMORY, text[:500])
    if _PROCESS_DIED.search(story):
        return Failure(PROCESS_DIED, "the trial's process died (killed, or it crashed)")
    if _PEER_GONE.search(story):
        return Failure(PROCESS_DIED, "a worker of the trial died (killed, or it crashed)")
    if raised:
        return Failure(raised[-1][1], (raised[-1][2] or raised[-1][1])[:500])
    return Failure("unknown", lines[-1][:500] if lines else "the trial's process ended")


def last_story(trial: Any) -> str:
    """The text of a Tune trial's latest error, from the driver's own disk.

    Tune would unpickle the exception from the results directory, where others may write.
    """
    if trial.error_file is None or not Path(trial.error_file).is_file():
        return ""
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    return text.rpartition("Failure # ")[2].partition("\n")[2]


def survive_memory_kills() -> None:
    """Let Tune take a process that Ray killed for its memory as one that died.

    Ray 2.60 tells this by an error that Tune does not know: it would end all other trials, too.
    """

    def task_failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        _task_failed(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = task_failed  # type: ignore[method-assign]


def breaks_process(error: Exception) -> bool:
    """After a CUDA error other than a lack of memory, no trial can train in this process."""
    return "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError)


def cause_of(error: WorkerGroupError) -> Exception | None:
    """The config's own error in a worker group; None where a process or node was lost.

    When one worker is killed, the others may fail before Ray has missed it.
    """
    causes = [getattr(e, "_base_exc", e) for e in error.worker_failures.values()]
    own = [e for e in causes if isinstance(e, CONFIG_ERRORS) and not isinstance(e, RayError)]
    return next((e for e in own if not _PEER_GONE.search(str(e))), None)


def pause_before(num_restarts: int) -> float:
    """Seconds before that restart: 2, 4, 8, … up to a minute."""
    return min(60.0, FIRST_PAUSE_S * 2 ** (num_restarts - 1)) if num_restarts else 0.0


def one_cause(records: Iterable[Record]) -> str | None:
    """The cause of which all have failed, if there are enough to expect it of the next ones."""
    found = list(records)
    if len(found) < MAX_FAILED_FROM_START or any(r.status != "failed" for r in found):
        return None
    causes = {record.cause for record in found}
    return f"{found[-1].error_kind}: {found[-1].error}" if len(causes) == 1 else None
