"""What a trial costs beside its epochs in a warm slot, and whether that grows with their number."""

from statistics import mean, median

from raylab.bench.row import Row, at_most, judged, quantile
from raylab.bench.stage import Stage
from raylab.bench.trials import CPU_ONLY, plan_of, run_steps, slots_of, sweep_of
from raylab.bench.watch import Seen, launches, overhead_per_trial

QUICK_TRIALS, FULL_TRIALS = 100, 1000
TINY = {"model": "cnn", "image_size": 16, "channels": 1, "epochs": 1}
MEDIAN, P95, GROWTH = at_most(0.1), at_most(0.3), at_most(1.3)
HOW = (
    "{num} trials of one tiny epoch in {slots} warm slots; a trial's last step to the first step "
    "of the next in its slot"
)


def measure(stage: Stage) -> list[Row]:
    """Median and 95 % quantile, growth over the sweep, and the whole overhead as a check."""
    num = QUICK_TRIALS if stage.quick else FULL_TRIALS
    stage.note(f"launch: {num} tiny trials")
    sweep = sweep_of("bench-launch", "toy:num=140", TINY, seeds=num, resources=CPU_ONLY)
    plan = plan_of(sweep)
    seen = run_steps(stage, plan, [list(plan.configs())])
    return rows_of(seen, slots_of(stage))


def rows_of(seen: list[Seen], slots: int) -> list[Row]:
    """From what was seen of the trials to rows."""
    gaps = launches(seen)
    how = HOW.format(num=len(seen), slots=slots)
    part = max(1, min(100, len(gaps) // 4))
    first, last = mean(gaps[:part]), mean(gaps[-part:])
    ends = f"mean of the last {part} launches over that of the first {part} of {len(gaps)}"
    total = f"(wall x {slots} slots - epochs) / {len(seen)} trials: nothing is left out"
    return [
        judged("launch in a warm slot, median", median(gaps), "s", MEDIAN, how),
        judged("launch in a warm slot, 95 % quantile", quantile(gaps, 0.95), "s", P95, how),
        Row(
            "launch, last over first",
            last,
            "s",
            first,
            last / first,
            GROWTH,
            "ok" if GROWTH.holds(last / first) else "missed",
            ends,
        ),
        judged("overhead per trial, all of it", overhead_per_trial(seen, slots), "s", None, total),
    ]
