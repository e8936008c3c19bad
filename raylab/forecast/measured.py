"""From the records of earlier sweeps to the speed of each workload; no Ray, no torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import nlargest

from pydantic import ValidationError

from raylab.config.trial import TrialConfig
from raylab.forecast.estimate import Measured, Speed, launch_s
from raylab.forecast.spread import Spread
from raylab.forecast.workload import Workload, workload_of
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record

MAX_TRIALS = 500
"""The latest of each directory."""
# Processes, imports and Ray itself, on machines seen so far.
START = Spread(10.0, 20.0, 40.0)


def measured_trials(directories: Iterable[ResultsDirectory], workers: int) -> Measured | None:
    """The speeds of trials that ended in these directories; None without a usable one."""
    trials: dict[Workload, list[Record]] = defaultdict(list)
    for directory in directories:
        read = directory.each_record()
        for record in nlargest(MAX_TRIALS, read, key=lambda record: record.started_at):
            if record.num_workers == workers and record.num_train and record.epochs:
                try:
                    config = TrialConfig.model_validate(dict(record.trial))
                except ValidationError:  # written by another raylab
                    continue
                trials[workload_of(config)].append(record)
    if not trials:
        return None
    speeds = {workload: speed_of(records) for workload, records in trials.items()}
    devices = Counter(record.device for records in trials.values() for record in records)
    named = ", ".join(f"{count:,} measured trials on {name}" for name, count in devices.items())
    return Measured(speeds, START, named)


def speed_of(records: list[Record]) -> Speed:
    """The speed that records of one workload show; with several workers, of each."""
    train_s, val_s, trial_s = [], [], []
    for record in records:
        workers, num_val = record.num_workers, record.num_val or 1
        for epoch in record.epochs:
            rate = float(epoch.get("train_images_per_s") or 0)
            if rate:
                learned_s = float(record.num_train or 0) / rate
                train_s.append(workers / rate)
                rest_s = max(0.0, float(epoch["seconds"] or 0) - learned_s)
                val_s.append(workers * rest_s / num_val)
        if record.status == "complete":
            spent_s = sum(float(epoch.get("seconds") or 0) for epoch in record.epochs)
            trial_s.append(max(0.0, record.seconds - spent_s))
    # The first trial of a slot waits for its process: the middle one does not.
    once = sorted(trial_s)[len(trial_s) // 2] if trial_s else launch_s(records[0].num_workers)
    return Speed(Spread.of(train_s), Spread.of(val_s), Spread.exactly(once))
