"""How long the command line takes to answer: --help, plans of many trials, large leaderboards."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raylab.bench.records import write_records, write_tables
from raylab.bench.row import Limit, Row, at_most, compared, judged, repeated
from raylab.bench.stage import Stage
from raylab.errors import CannotFinish

HELP, PLAN, FLAT = at_most(0.3), at_most(3), at_most(1.2)
BOARD_100K, BOARD_1M, INCREMENT = at_most(2), at_most(15), at_most(1.3)
NUM_PLANNED, NUM_PLANNED_SMALL, NUM_FACES = 100_000, 1000, 140
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command."""

    seconds: float
    peak_bytes: int


def measure(stage: Stage) -> list[Row]:
    """Subprocesses of this interpreter, so imports count."""
    stage.note("start: --help, plan, leaderboard")
    times = 3 if stage.quick else 7
    helps = [raylab("--help").seconds for _ in range(times)]
    how = f"subprocess, median of {times}"
    rows = [repeated("raylab --help", helps, "s", HELP, how), *plans(stage)]
    return [*rows, *boards(stage)]


def plans(stage: Stage) -> list[Row]:
    """A large grid's plan: its time, and its peak memory against a small grid's."""
    place = stage.place("plans")
    runs = {
        num: [raylab("plan", str(grid_of(place, num))) for _ in range(1 if stage.quick else 3)]
        for num in (NUM_PLANNED_SMALL, NUM_PLANNED)
    }
    seconds = [run.seconds for run in runs[NUM_PLANNED]]
    peaks = {num: [run.peak_bytes / MIB for run in each] for num, each in runs.items()}
    name = f"raylab plan of {NUM_PLANNED:,} trials"
    memory = f"peak memory over that of a plan of {NUM_PLANNED_SMALL:,}"
    return [
        repeated(
            name,
            seconds,
            "s",
            PLAN,
            f"subprocess; {NUM_FACES} toy faces, so that the grid is what is planned",
        ),
        compared(
            f"{name}, memory", peaks[NUM_PLANNED], peaks[NUM_PLANNED_SMALL], "MiB", FLAT, memory
        ),
    ]


def grid_of(place: Path, num: int) -> Path:
    """A grid file of `num` trials over the learning rate and a hundred seeds."""
    rates = ", ".join(f"{1e-4 * (1 + i / 1000):.7f}" for i in range(num // 100))
    seeds = ", ".join(map(str, range(100)))
    path = place / f"plan-{num}.yaml"
    path.write_text(
        f"name: plan-{num}\ndata: toy:num={NUM_FACES}\ntrial: {{model: cnn}}\n"
        f"axes: {{lr: [{rates}]}}\nseeds: [{seeds}]\n"
    )
    return path


def boards(stage: Stage) -> list[Row]:
    """Leaderboards over records written one by one, and over gathered tables."""
    num = 10_000 if stage.quick else 100_000
    place = stage.place("records")
    first, last = write_records(place, num)
    how = f"mean seconds of the last 1,000 of {num:,} records over the first 1,000, gathering on"
    rows = [
        board(place, num, BOARD_100K),
        compared("adding a record, last over first", [last], [first], "s", INCREMENT, how),
    ]
    if not stage.quick:
        million = stage.place("million")
        write_tables(million, 1_000_000)
        rows.append(board(million, 1_000_000, BOARD_1M))
    return rows


def board(place: Path, num: int, limit: Limit) -> Row:
    """The time of `raylab leaderboard --top 10` over it."""
    run = raylab("leaderboard", str(place), "--top", "10")
    how = f"subprocess, --top 10, peak {run.peak_bytes / MIB:.0f} MiB"
    return judged(f"raylab leaderboard of {num:,} trials", run.seconds, "s", limit, how)


def raylab(*arguments: str) -> Run:
    """Runs the command to its end; raises CannotFinish if it fails."""
    return timed([sys.executable, "-m", "raylab", *arguments])


def timed(command: Sequence[str]) -> Run:
    """Wall time and peak memory of a command whose output is thrown away."""
    meter = [sys.executable, "-m", "raylab.bench.meter", *command]
    done = subprocess.run(meter, capture_output=True, text=True)
    told = json.loads(done.stdout)
    if told["code"]:
        text = f"{' '.join(command[1:4])} ended with {told['code']}: {done.stderr[-500:]}"
        raise CannotFinish(text)
    return Run(told["seconds"], told["peak_bytes"])
