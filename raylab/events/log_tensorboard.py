"""Trials as TensorBoard event files: `tensorboard --logdir RESULTS/tensorboard`."""

from typing import Any

from tensorboardX import SummaryWriter

from raylab.events.logged import own_folder
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record


def make(sweep: str, results: ResultsDirectory) -> "TensorboardLogger":
    """The logger of a sweep."""
    return TensorboardLogger(own_folder("tensorboard", results))


class TensorboardLogger:
    """A folder of events per trial, with its config for the tab of hyperparameters."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.writers: dict[str, SummaryWriter] = {}
        self.configs: dict[str, dict[str, Any]] = {}

    def started(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        self.writers[trial_id] = SummaryWriter(f"{self.folder}/tensorboard/{trial_id}")
        self.configs[trial_id] = config

    def epoch(self, trial_id: str, epoch: int, measures: dict[str, float]) -> None:
        for name, value in measures.items():
            self.writers[trial_id].add_scalar(name, value, epoch)

    def ended(self, record: Record, measures: dict[str, float]) -> None:
        writer, config = self.writers.pop(record.trial_id), self.configs.pop(record.trial_id)
        best = {f"best/{name}": value for name, value in measures.items()}
        writer.add_hparams(config, best, name=".", global_step=record.best_epoch or 0)
        writer.close()

    def close(self, best: Record | None) -> None:
        for writer in self.writers.values():
            writer.close()
