"""`amp: auto` against float32: the images per second it brings, and the accuracy it keeps."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import mean, stdev

from raylab.bench.row import Row, at_least, compared
from raylab.bench.stage import Stage
from raylab.bench.trials import CPU_ONLY, plan_of, run_steps, sweep_of
from raylab.bench.watch import Seen
from raylab.results.record import Record

NUM_SEEDS = 3
AMPS = ("auto", "none")
SPEED_UP = at_least(1)


@dataclass(frozen=True, slots=True)
class Case:
    """One model's trials."""

    model: str
    image_size: int
    epochs: int


QUICK = (Case("cnn", 48, 2),)
FULL = (Case("cnn", 48, 8), Case("resnet18", 64, 3))


def measure(stage: Stage) -> list[Row]:
    """Speed and accuracy per model; the two sides in turns, seed by seed."""
    rows = []
    for case in QUICK if stage.quick else FULL:
        stage.note(f"precision: {case.model} {case.image_size} px, {NUM_SEEDS} seeds each")
        trial = {"model": case.model, "image_size": case.image_size, "epochs": case.epochs}
        plan = plan_of(
            sweep_of(
                f"bench-amp-{case.model}",
                "toy",
                trial,
                axes={"amp": AMPS},
                seeds=NUM_SEEDS,
                resources=CPU_ONLY,
            )
        )
        in_turns = sorted(plan.configs(), key=lambda config: (config.seed, config.amp))
        rows += rows_of(case, run_steps(stage, plan, [in_turns]))
    return rows


def rows_of(case: Case, seen: list[Seen]) -> list[Row]:
    """From the trials of both sides to two rows."""
    records: dict[str, list[Record]] = defaultdict(list)
    for trial in seen:
        if trial.record is not None:
            records[trial.config.amp].append(trial.record)
    rates = {amp: [r.train_images_per_s or 0.0 for r in records[amp]] for amp in AMPS}
    name = f"amp auto / float32, {case.model} {case.image_size} px"
    how = f"training without validation, per slot, {NUM_SEEDS} seeds each in turns; ratio = auto / "
    how += "float32"
    speed = compared(name, rates["auto"], rates["none"], "images/s", SPEED_UP, how)
    scores = {amp: [100 * (r.val_accuracy or 0.0) for r in records[amp]] for amp in AMPS}
    return [speed, accuracy_row(name, scores["auto"], scores["none"])]


def accuracy_row(name: str, auto: list[float], plain: list[float]) -> Row:
    """Whether the means differ by more than seeds do; in points of validation accuracy."""
    apart = abs(mean(auto) - mean(plain))
    seeds = max(stdev(auto), stdev(plain))
    how = (
        f"mean validation accuracy of {len(auto)} seeds each: {mean(auto):.2f} against "
        f"{mean(plain):.2f}; ok if they differ by no more than the larger standard deviation over "
        f"seeds, {seeds:.2f} points"
    )
    verdict = "ok" if apart <= seeds else "missed"
    return Row(
        f"{name}, accuracy",
        mean(auto),
        "%",
        mean(plain),
        verdict="ok" if verdict == "ok" else "missed",
        how=how,
    )
