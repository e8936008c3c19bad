"""A few processes with one thread each that start a job at the same moment and time only that."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from types import TracebackType
from typing import Any, Self

import torch

from raylab.errors import CannotFinish

# Importing torch in many processes of a busy machine takes long; for ever is a bug.
BARRIER_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Done:
    """What one process gave back, and when it worked (monotonic seconds of this machine)."""

    began_s: float
    ended_s: float
    result: Any


def wall(parts: Sequence[Done]) -> float:
    """Seconds from the first start to the last end."""
    return max(part.ended_s for part in parts) - min(part.began_s for part in parts)


class SideBySide:
    """`num` processes, started once and kept, so that no measurement holds their start.

    Between jobs they sleep on a pipe. A job is a module-level function and its argument.
    """

    def __init__(self, num: int, num_threads: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self.barrier = context.Barrier(num)  # kept: a process that starts late looks for it
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(num):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, self.barrier, num_threads), daemon=False
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if error is not None:
                process.terminate()
            elif process.is_alive():
                pipe.send(None)
            process.join()
            pipe.close()

    def run(self, function: Callable[[Any], Any], job: Any) -> list[Done]:
        """The job once in every process, begun together. Raises CannotFinish if one failed."""
        for pipe in self.pipes:
            pipe.send((function, job))
        try:
            answers = [pipe.recv() for pipe in self.pipes]
        except EOFError as error:
            raise CannotFinish("a process of the bench died; was there memory enough?") from error
        for answer in answers:
            if isinstance(answer, str):
                raise CannotFinish(f"a process of the bench failed: {answer}")
        return answers


def serve(pipe: Connection, barrier: Barrier, num_threads: int) -> None:
    """What a process does: wait for a job, start it with the others, answer; until None comes."""
    torch.set_num_threads(num_threads)
    while (order := pipe.recv()) is not None:
        function, job = order
        barrier.wait(BARRIER_TIMEOUT_S)
        began_s = time.monotonic()
        try:
            result = function(job)
            pipe.send(Done(began_s, time.monotonic(), result))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")
