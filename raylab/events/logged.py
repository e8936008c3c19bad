"""A running sweep told to the trackers that people already use: TensorBoard, MLflow, W&B.

Ray's own callbacks for them do not fit trials that share a process: its W&B callback starts a
process per trial, its MLflow one a transaction per number in the driver's loop, and its TensorBoard
one writes among Ray's scratch. Here one thread does it all, and the driver waits for none of it.
"""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.events.tally import Tally, short_name
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
NEEDS_FOLDER = "keeps its files in the results, and these are no local folder"
CLOSE_S = 120.0
"""So long a sweep that has ended waits for a slow tracker."""
EPOCH_MEASURES = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1"),
    *("lr", "seconds", "train_images_per_s"),
)
BEST_MEASURES = ("val_accuracy", "val_macro_f1", "val_loss", "best_epoch", "num_epochs", "seconds")


class Logger(Protocol):
    """One tracker; called from one thread, in the order of the events."""

    def started(self, trial_id: str, name: str, config: dict[str, Any]) -> None: ...
    def epoch(self, trial_id: str, epoch: int, measures: dict[str, float]) -> None: ...
    def ended(self, record: Record, measures: dict[str, float]) -> None: ...
    def close(self, best: Record | None) -> None: ...


def check_loggers(sweep: SweepConfig) -> None:
    """Refused where a logger's package is not installed, or its store is none."""
    problems = [
        Problem("loggers", f"{name} is not installed here; pip install 'raylab[{name}]'")
        for name in sweep.loggers
        if find_spec(PACKAGES[name]) is None
    ]
    if problems:
        raise Refused(problems, "the grid")
    if "mlflow" in sweep.loggers:
        _tracker("mlflow").check()


def logger_of(name: str, sweep: SweepConfig, results: ResultsDirectory) -> Logger:
    """The tracker of that name. Refused where it cannot work with these results."""
    made: Logger = _tracker(name).make(sweep.name, results)
    return made


def _tracker(name: str) -> ModuleType:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    return import_module(f"raylab.events.log_{name}")


class LoggedView:
    """A view that hands every event to the sweep's loggers, in a thread of its own.

    A logger that fails is told of by `tell`, once, and hears no more; the sweep goes on.
    """

    def __init__(
        self,
        sweep: SweepConfig,
        results: ResultsDirectory,
        fields: Sequence[str],
        tell: Callable[[str], object],
    ) -> None:
        self.loggers = {name: logger_of(name, sweep, results) for name in sweep.loggers}
        self.tally, self.tell = Tally(sweep.metric, fields), tell
        self.events: queue.SimpleQueue[Callable[[Logger], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="raylab-loggers", daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Event after event to every logger, until None."""
        while (event := self.events.get()) is not None:
            for name, logger in list(self.loggers.items()):
                try:
                    event(logger)
                except Exception as error:  # a tracker's own errors are of any kind
                    del self.loggers[name]
                    self.tell(f"{name} fails and is told no more: {type(error).__name__}: {error}")

    def preparing(self, what: str, done: int, total: int) -> None:
        """Nothing to log."""

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        self.tally.planned(total, reused, slots, epochs)

    def started(self, trial_id: str, config: TrialConfig) -> None:
        flat = config.flat()
        name = short_name(flat, self.tally.fields)
        self.tally.started(trial_id, config)
        self.events.put(lambda logger: logger.started(trial_id, name, dict(flat)))

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        measures = {key: float(row[key]) for key in EPOCH_MEASURES if row.get(key) is not None}
        self.events.put(lambda logger: logger.epoch(trial_id, row["epoch"], measures))

    def ended(self, record: Record) -> None:
        self.tally.ended(record)
        known = {name: getattr(record, name) for name in BEST_MEASURES}
        measures = {name: float(value) for name, value in known.items() if value is not None}
        self.events.put(lambda logger: logger.ended(record, measures))

    def note(self, text: str) -> None:
        """Nothing to log."""

    def close(self) -> None:
        """Waits until all is logged, CLOSE_S at most."""
        best = self.tally.best
        self.events.put(lambda logger: logger.close(best))
        self.events.put(None)
        self.thread.join(CLOSE_S)
        if self.thread.is_alive():
            self.tell(f"{', '.join(self.loggers)}: not all was logged after {CLOSE_S:.0f} s")


def own_folder(name: str, results: ResultsDirectory) -> str:
    """The local results directory, for a tracker that writes files; else Refused."""
    if not results.folder.is_local:
        raise Refused([Problem("loggers", f"{name} {NEEDS_FOLDER}")], "the grid")
    return results.location
