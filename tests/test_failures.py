"""Why a trial failed, from what was raised or from Ray's own words, and when a sweep gives up."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train import WorkerGroupError

from raylab.commands.sweep import tell_failures
from raylab.config.trial import TrialConfig
from raylab.errors import CannotWrite
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, record_from
from raylab.sweep.failures import (
    Beginning,
    Failure,
    failure_in,
    pause_before,
    survive_memory_kills,
)
from raylab.sweep.raised import cause_of, failure_of
from raylab.training.loop import DivergedError
from raylab.training.memory import breaks_process

DEAD = """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
\tpid: 25999
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes
include: (1) the process was killed by the OOM killer due to high memory usage, (2) …"""

CUDNN_9_FULL = "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"

ECHO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:14213: "
    "Connection reset by peer. This is typically caused by a remote worker hanging"
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DivergedError("the loss is nan"), "diverged"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "OutOfMemory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 2 GB"), "OutOfMemory"),
        (MemoryError(), "OutOfMemory"),
        (RuntimeError("FIND was unable to find an engine to execute this"), "OutOfMemory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "OutOfMemory"),
        (RuntimeError(f"cuDNN error: {CUDNN_9_FULL}"), "OutOfMemory"),
        (ValueError("weights file 'a.pt' does not exist"), "weights"),
        (KeyError("lr"), "KeyError"),
    ],
)
def test_what_a_trial_raises_has_a_kind(error: Exception, kind: str) -> None:
    assert failure_of(error).kind == kind
    assert failure_of(error).text


@pytest.mark.parametrize(
    ("error", "breaks"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError(f"cuDNN error: {CUDNN_9_FULL}"), False),
        (ValueError("model x is too small"), False),
    ],
)
def test_a_lack_of_memory_leaves_a_process_that_can_train(error: Exception, breaks: bool) -> None:
    assert breaks_process(error) is breaks


@pytest.mark.parametrize(
    ("story", "kind", "is_own"),
    [
        (DEAD, "ProcessDied", True),
        (
            "The actor died unexpectedly before finishing this task.\nThe actor died because its "
            "node has died. Node Id: 12ab",
            "NodeLost",
            False,
        ),
        (
            "The actor 66c0 is unavailable: The actor is temporarily unavailable: RpcError: RPC "
            "error: Socket closed rpc_code: 14. The task may or may not have been executed.",
            "NodeLost",
            False,
        ),
        ("Task was killed due to the node running low on memory.", "OutOfMemory", True),
        ("RuntimeError: GET was unable to find an engine to execute", "OutOfMemory", True),
        (f"Training failed due to worker errors:\nRuntimeError: {ECHO}", "ProcessDied", True),
        ("Traceback …\n  File x\nray.exceptions.Odd: it broke", "Odd", True),
        ("", "unknown", True),
    ],
)
def test_what_ray_says_of_a_lost_process_has_a_kind(story: str, kind: str, is_own: bool) -> None:
    failure = failure_in(story)
    assert (failure.kind, failure.is_own) == (kind, is_own)
    assert "Traceback" not in failure.text


def test_a_full_storage_is_told_apart_from_a_trial_that_fails() -> None:
    story = "ray::train()\n  File x\nraylab.errors.CannotWrite: /r/a cannot be written: full\nMend"
    expected = Failure(CannotWrite.__name__, "/r/a cannot be written: full\nMend")
    assert failure_in(story) == expected


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        ([RuntimeError(ECHO)], None),
        ([RuntimeError(ECHO), ValueError("model x is too small")], 1),
        ([RuntimeError("mat1 and mat2 shapes cannot be multiplied")], 0),
        ([RayActorError()], None),
    ],
)
def test_what_the_peers_of_a_killed_worker_say_is_not_the_configs_fault(
    raised: list[Exception], cause: int | None
) -> None:
    error = WorkerGroupError("Training failed", dict(enumerate(raised)))
    assert cause_of(error) is (None if cause is None else raised[cause])


def test_restarts_wait_longer_and_longer() -> None:
    assert [pause_before(n) for n in (0, 1, 2, 3, 9)] == [0, 2, 4, 8, 60]


def failed(lr: float, error: str | None, seed: int = 0) -> Record:
    kind = error and error.partition(" ")[0]
    status = "failed" if error else "complete"
    config = TrialConfig(lr=lr, seed=seed)
    return record_from(config, "d", "s", [], status, error_kind=kind, error=error)


def heard(*records: Record, num_families: int = 9) -> list[str | None]:
    beginning = Beginning(num_families)
    return [beginning.hear(record) for record in records]


def test_three_failures_of_one_cause_are_enough_and_numbers_in_it_do_not_matter() -> None:
    same = [failed(lr, f"weights file {n} at {lr}") for n, lr in enumerate([1, 0.5, 1e-3, 1e-4])]
    assert heard(*same) == [None, None, "weights: weights file 2 at 0.001", None]
    assert not any(heard(*same[:2], failed(0.1, "KeyError lr"), *same[2:]))
    assert not any(heard(failed(0.1, None), *same))


@pytest.mark.parametrize(
    ("kind", "num_families", "needed"),
    [
        ("ValueError", 9, 7),
        ("ProcessDied", 9, 7),
        ("ValueError", 2, 4),
        ("ValueError", 1, 3),
        ("diverged", 20, 28),
        ("OutOfMemory", 20, 28),
    ],
)
def test_one_config_that_fails_with_each_seed_ends_no_sweep_of_others(
    kind: str, num_families: int, needed: int | None
) -> None:
    """needed: trials, of configs with three seeds each, till no more are started."""
    records = [failed(0.9**n, kind, seed) for n in range(12) for seed in range(3)]
    told = heard(*records, num_families=num_families)
    assert [n for n, cause in enumerate(told, 1) if cause] == ([needed] if needed else [])


def test_the_end_of_a_sweep_tells_every_cause_once_the_most_frequent_first_then_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        failed(1.0, "ValueError no such layer"),
        failed(0.1, "ValueError image too small"),
        failed(0.2, "diverged in epoch 2"),
        failed(0.3, "diverged in epoch 3"),
    ]
    tell_failures(tuple(records), ResultsDirectory(tmp_path))
    told = [line.partition("  (log: ")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "2 failed: diverged: diverged in epoch 2",
        "1 failed: ValueError: ValueError image too small",
        "1 failed: ValueError: ValueError no such layer",
    ]


def test_a_process_killed_for_its_memory_is_to_tune_one_that_died() -> None:
    heard: list[Exception] = []
    tracked = SimpleNamespace(
        _tracked_actor=SimpleNamespace(actor_id=1, _on_error=None),
        _on_error=lambda actor, error: heard.append(error),
    )
    manager = RayActorManager.__new__(RayActorManager)
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None  # type: ignore[method-assign]
    survive_memory_kills()
    manager._actor_task_failed(tracked, OutOfMemoryError("node low on memory"))
    (error,) = heard
    assert isinstance(error, RayActorError)
    assert failure_in(str(error)).kind == "OutOfMemory"
