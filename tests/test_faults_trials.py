"""Trials that raise, hang, run out of memory, diverge, or miss a file; sweeps that only fail."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
from faults import Run, board_of, write_grid
from ray import cloudpickle
from safetensors.torch import save_file

from raylab.commands.sweep import tell_failures
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.sweep import trial
from raylab.sweep.runner import Options, Outcomes, Sweeping, run_sweep
from raylab.training.model import build_model

pytestmark = pytest.mark.slow
HANGS, RAISES, IS_TOO_LARGE, DIVERGES = 2.0e-3, 3.0e-3, 4.0e-3, 100.0


@pytest.fixture(scope="module")
def place(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    place = tmp_path_factory.mktemp("faulty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_CACHE", str(place / "cache"))
        patch.setattr(Sweeping, "train_function", staticmethod(faulty))
        yield place


def faulty(params: dict[str, Any], shared: trial.Shared) -> None:
    """A trial whose learning rate says what happens in its process."""
    lr, weights = params["config"]["lr"], Path(params["config"]["pretrained"] or "none")
    if weights.with_suffix(".lost").exists():  # after the grid was checked
        weights.unlink(missing_ok=True)
    if lr == HANGS:
        time.sleep(10_000)
    with pytest.MonkeyPatch.context() as patch:
        if lr == RAISES:
            patch.setattr(trial, "train", raise_at_once)
        if lr == IS_TOO_LARGE:
            patch.setattr(trial, "train", train_with_little_memory)
        trial.run_trial(params, shared)


def raise_at_once(*given: Any, **named: Any) -> NoReturn:
    raise ValueError("no such thing can be trained")


def train_with_little_memory(*given: Any, train: Any = trial.train, **named: Any) -> None:
    """The operating system refuses what goes beyond 64 MiB more than the process has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, limits[1]))
    try:
        train(*given, **named)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def sweep(place: Path, name: str, text: str, **options: bool) -> Outcomes:
    grid = place / write_grid(place, text, name)
    return run_sweep(read_grid(grid), Options(str(place / name), quiet=True, **options))


def test_each_way_to_fail_has_its_kind_and_the_others_finish(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"""
zip:
  - lr: [1.0e-3, {HANGS}, {RAISES}, {IS_TOO_LARGE}, {DIVERGES}]
    image_size: [16, 16, 16, 160, 16]
axes: {{weight_decay: [10.0], epochs: [8]}}
resources: {{trial_timeout_minutes: 1}}
"""
    outcomes = sweep(place, "kinds", text)
    assert {record.config["lr"]: record.error_kind for record in outcomes.records} == {
        1.0e-3: None,
        HANGS: "timeout",
        RAISES: "ValueError",
        IS_TOO_LARGE: "OutOfMemory",
        DIVERGES: "diverged",
    }
    assert outcomes.exit_code == 1
    tell_failures(outcomes.records, ResultsDirectory(place / "kinds"))
    told = capsys.readouterr().err.splitlines()
    kinds = [line.partition(": ")[2].partition(":")[0] for line in told]
    assert kinds == ["OutOfMemory", "ValueError", "diverged", "timeout"]
    for line in told:
        assert Path(line.partition("(log: ")[2].rstrip(")")).is_file(), line


def test_a_sweep_that_only_fails_stops_and_retry_failed_runs_only_those(place: Path) -> None:
    weights, config = place / "weights.safetensors", TrialConfig(model="cnn", channels=1)
    save_file(build_model(config, 7).state_dict(), weights)
    content, lost = weights.read_bytes(), weights.with_suffix(".lost")
    lrs = [1.0e-2, 9.0e-3, 8.0e-3, 7.0e-3, 6.0e-3, 5.0e-3]
    text = f'axes: {{lr: {lrs}, pretrained: ["{weights}"]}}\nseeds: [0, 1]\n'
    grid = read_grid(place / write_grid(place, text, "stops"))
    options = Options(str(place / "stops"), quiet=True)
    lost.touch()
    stopped = run_sweep(grid, options)
    assert stopped.exit_code == 1
    assert 5 <= len(stopped.records) <= 7  # two configs with both seeds, one with the first
    assert {record.error_kind for record in stopped.records} == {"weights"}
    assert stopped.advice is not None
    assert "--retry-failed" in stopped.advice
    lost.unlink()
    weights.write_bytes(content)
    others = run_sweep(grid, options)
    assert (len(others.records), others.advice) == (12, None)
    files = {f.name: f.stat().st_mtime_ns for f in (place / "stops" / "records").glob("*.json")}
    failed = {f"{record.trial_id}.json" for record in stopped.records}
    again = run_sweep(grid, Options(str(place / "stops"), quiet=True, retry_failed=True))
    assert again.exit_code == 0
    for name, before in files.items():
        after = (place / "stops" / "records" / name).stat().st_mtime_ns
        assert (after > before) == (name in failed)


EATER = """
import sys
import time
from pathlib import Path
from raylab.config.grid import read_grid
from raylab.sweep.runner import Options, Sweeping, run_sweep
from raylab.sweep.trial import run_trial

def eat(params, shared):
    eaten = []
    while params["config"]["seed"] == 1:
        eaten.append(b"x" * 50_000_000)
        time.sleep(0.05)
    run_trial(params, shared)

Sweeping.train_function = staticmethod(eat)
outcomes = run_sweep(read_grid(Path("grid.yaml")), Options("r"))
sys.exit(outcomes.exit_code)
"""
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def memory_of(num_bytes: int) -> Iterator[tuple[str, ...]]:
    """A command that runs the one after it where there is only so much memory: the kernel's limit,
    which Ray finds as it does in a container.
    """
    is_v2 = (CGROUPS / "cgroup.controllers").exists()
    root = CGROUPS if is_v2 else CGROUPS / "memory"
    group = root / f"raylab-{uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text(str(num_bytes))
    except OSError as error:
        pytest.skip(f"no memory can be set apart here: {error}")
    enter = f'mount --bind {group} {root} && echo $$ > {root}/cgroup.procs && exec "$@"'
    try:
        yield ("unshare", "--mount", "sh", "-c", enter, "sh")
    finally:
        group.rmdir()


@pytest.mark.timeout(400)
def test_a_trial_killed_for_its_memory_is_told_as_such_and_the_others_finish(
    tmp_path: Path,
) -> None:
    write_grid(tmp_path, "axes: {lr: [1.0e-3]}\nseeds: [0, 1, 2, 3]\n")
    limits = {"RAY_memory_usage_threshold": "0.75", "RAY_memory_monitor_refresh_ms": "50"}
    with memory_of(6 * 2**30) as inside:
        run = Run(tmp_path, script=EATER, inside=inside, **limits)
        assert run.wait() == 1, run.story
        run.check_nothing_is_left()
    board = board_of(tmp_path / "r").set_index("seed")
    assert dict(board.status) == {0: "complete", 1: "failed", 2: "complete", 3: "complete"}
    assert board.loc[1, "error_kind"] == "OutOfMemory"
    assert board.loc[1, "num_restarts"] == 2
    assert "Traceback" not in run.story
