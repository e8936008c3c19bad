"""Which measurements run, in which order, and the rows that they give."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from raylab.bench import (
    asha,
    documented,
    gpu,
    group,
    handwritten,
    launch,
    memory,
    precision,
    prepare,
    scaling,
    start,
    sweep,
)
from raylab.bench.row import Row
from raylab.bench.stage import Stage
from raylab.config.choices import did_you_mean
from raylab.errors import Problem, RaylabError, Refused
from raylab.results.environment import environment
from raylab.sweep.cluster import connected


@dataclass(frozen=True, slots=True)
class Measurement:
    """One of the things that `raylab bench` measures."""

    name: str
    measure: Callable[[Stage], list[Row]]
    in_quick: bool = False
    needs_ray: bool = True


MEASUREMENTS = (
    Measurement("start", start.measure, in_quick=True, needs_ray=False),
    Measurement("handwritten", handwritten.measure, needs_ray=False),
    Measurement("documented", documented.measure),
    Measurement("launch", launch.measure, in_quick=True),
    Measurement("sweep", sweep.measure, in_quick=True),
    Measurement("group", group.measure),
    Measurement("prepare", prepare.measure, in_quick=True),
    Measurement("memory", memory.measure, in_quick=True),
    Measurement("precision", precision.measure),
    Measurement("asha", asha.measure),
    Measurement("scaling", scaling.measure_slots),
    Measurement("crowd", scaling.measure_crowd, needs_ray=False),
    Measurement("gpu", gpu.measure, needs_ray=False),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


@dataclass(frozen=True, slots=True)
class Bench:
    """The whole answer: the machine, the rows, and what could not be measured."""

    machine: dict[str, Any]
    rows: list[Row]

    @property
    def exit_code(self) -> int:
        """1 where something could not be measured; a missed limit is an answer."""
        return 1 if any(row.verdict == "failed" for row in self.rows) else 0

    @property
    def title(self) -> str:
        """The machine in a line."""
        has = f"{self.machine['num_cpus']} CPUs, load {self.machine['load']:.1f} at the start"
        return f"{self.machine['cpu']}, {has}, raylab {self.machine['raylab']}"


def chosen(names: Sequence[str], *, quick: bool, on_gpu: bool) -> tuple[Measurement, ...]:
    """The measurements in their order; Refused for a name that is none."""
    wrong = [name for name in names if name not in NAMES]
    if wrong:
        allowed = f"; allowed: {', '.join(NAMES)}"
        problems = [
            Problem(f"--only {name}", f"no such measurement{did_you_mean(name, NAMES) or allowed}")
            for name in wrong
        ]
        raise Refused(problems, "the options", "nothing was measured")
    if on_gpu or "gpu" in names:
        gpu.check()
    if names or on_gpu:
        wanted = {*names, *(["gpu"] if on_gpu else [])}
        return tuple(each for each in MEASUREMENTS if each.name in wanted)
    usual = [each for each in MEASUREMENTS if each.name != "gpu"]
    return tuple(each for each in usual if each.in_quick or not quick)


def run(names: Sequence[str] = (), *, quick: bool = False, on_gpu: bool = False) -> Bench:
    """Measure; what fails gives a row that says so, and the others go on."""
    wanted = chosen(names, quick=quick, on_gpu=on_gpu)
    machine = machine_now()
    rows: list[Row] = []
    with scratch() as folder:
        stage = Stage(folder, quick, machine["num_cpus"])
        for measurement in wanted:
            if not measurement.needs_ray:
                rows += guarded(measurement, stage)
        with_ray = [each for each in wanted if each.needs_ray]
        if with_ray:
            stage.note("starting a local Ray")
            with connected(None) as capacity:
                for measurement in with_ray:
                    rows += guarded(measurement, replace(stage, capacity=capacity))
    return Bench(machine, rows)


def guarded(measurement: Measurement, stage: Stage) -> list[Row]:
    """Its rows, or one that says why there are none."""
    began = time.perf_counter()
    try:
        rows = measurement.measure(stage)
    except (RaylabError, RayError, OSError, RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        rows = [Row(measurement.name, None, "", verdict="failed", how=text[-1][:300])]
    stage.note(f"{measurement.name}: done in {time.perf_counter() - began:.0f} s")
    return rows


def machine_now() -> dict[str, Any]:
    """What `environment.json` says of this machine, less the code's diff, and how busy it is."""
    facts = environment()
    del facts["git_diff"]
    return facts | {"load": os.getloadavg()[0]}


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for results and prepared images that are nobody's after the bench."""
    before = os.environ.get("RAYLAB_CACHE")
    with tempfile.TemporaryDirectory(prefix="raylab-bench-", ignore_cleanup_errors=True) as name:
        os.environ["RAYLAB_CACHE"] = str(Path(name) / "cache")
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["RAYLAB_CACHE"]
            else:
                os.environ["RAYLAB_CACHE"] = before
