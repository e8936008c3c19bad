"""Why a trial ended without a result, from what Ray says of its process; what a driver knows."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from raylab.errors import CannotWrite
from raylab.results.record import Record
from raylab.training.memory import FULL_DEVICE

MAX_RESTARTS = 2
"""Of a trial whose own process fails or dies; it goes on from its last checkpoint."""
MAX_LOSSES = 20
"""Of the nodes under a trial: a spot market may take many, but a cluster that has none ends."""
FIRST_PAUSE_S = 2.0
MAX_FAILED_FROM_START = 3
MAX_CONFIGS_FAILED_FROM_START = 10
"""If each may have failed of itself: with too high an lr, too large a batch."""

TIMEOUT, OUT_OF_MEMORY = "timeout", "OutOfMemory"
PROCESS_DIED, NODE_LOST, WEIGHTS = "ProcessDied", "NodeLost", "weights"
DIVERGED = "diverged"
OF_THE_MACHINE = frozenset({TIMEOUT, PROCESS_DIED, NODE_LOST})
"""What says nothing of the config."""
OF_THE_CONFIG = frozenset({DIVERGED, OUT_OF_MEMORY})
"""What says nothing of other configs."""

# In Ray's own words, since a lost process leaves no exception.
_NODE_LOST = re.compile(r"node (has )?died|node.{0,40}(was|is) (preempted|drained|dead)", re.I)
_OUT_OF_REACH = re.compile(r"actor .{0,80}is (temporarily )?unavailable", re.I)
OUT_OF_MEMORY_TEXT = re.compile(
    rf"low on memory|out.of.memory|OutOfMemory|can't allocate memory|{FULL_DEVICE}", re.I
)
_PROCESS_DIED = re.compile(r"actor (died|is dead)|worker.{0,30}died|ActorDied", re.I)
# Of the workers that are left when one of a group dies: gloo's words, and NCCL's.
PEER_GONE = re.compile(r"gloo/transport|(reset|closed) by (remote )?peer|NCCL.{0,200}remote", re.I)
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
    if OUT_OF_MEMORY_TEXT.search(story):
        text = next(line for line in lines if OUT_OF_MEMORY_TEXT.search(line))
        return Failure(OUT_OF_MEMORY, text[:500])
    if _PROCESS_DIED.search(story):
        return Failure(PROCESS_DIED, "the trial's process died (killed, or it crashed)")
    if PEER_GONE.search(story):
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


def pause_before(num_restarts: int) -> float:
    """Seconds before that restart: 2, 4, 8, … up to a minute."""
    return min(60.0, FIRST_PAUSE_S * 2 ** (num_restarts - 1)) if num_restarts else 0.0


class Beginning:
    """The trials that ended first, as long as all failed of one cause.

    Seeds and folds run next to each other: what fails with each of them may be one config's fault.
    """

    def __init__(self, num_families: int) -> None:
        """num_families: of the sweep; of fewer than three each has to fail."""
        self.num_families = num_families
        self.families: set[str] = set()
        self.causes: set[tuple[str, str]] = set()
        self.num_failed = 0
        self.is_over = False

    def hear(self, record: Record) -> str | None:
        """The cause, once enough have failed to expect it of the next ones."""
        if self.is_over:
            return None
        self.causes.add(record.cause)
        if record.status != "failed" or len(self.causes) > 1:
            self.is_over = True
            return None
        self.num_failed += 1
        self.families.add(record.family_id)
        num_expected = min(MAX_FAILED_FROM_START, self.num_families)
        if record.error_kind in OF_THE_CONFIG:
            num_expected = MAX_CONFIGS_FAILED_FROM_START
        if self.num_failed < MAX_FAILED_FROM_START or len(self.families) < num_expected:
            return None
        self.is_over = True
        return f"{record.error_kind}: {record.error}"
