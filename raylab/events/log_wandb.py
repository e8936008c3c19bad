"""Trials as runs of Weights & Biases; with WANDB_MODE=offline, as files for `wandb sync`."""

import os
from typing import Any

import wandb

from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record

LOCAL_MODES = ("offline", "disabled", "dryrun")


def make(sweep: str, results: ResultsDirectory) -> "WandbLogger":
    """The logger of a sweep. Refused where W&B would have to ask who you are."""
    if os.environ.get("WANDB_MODE") not in LOCAL_MODES and not wandb.api.api_key:
        text = "wandb does not know you; run `wandb login`, or set WANDB_MODE=offline"
        raise Refused([Problem("loggers", text)], "the grid")
    return WandbLogger(sweep, results.location if results.folder.is_local else None)


class WandbLogger:
    """A project per sweep, a run per trial, which a resumed trial goes on with."""

    def __init__(self, sweep: str, folder: str | None) -> None:
        self.project, self.folder = sweep.replace("/", "-"), folder
        self.runs: dict[str, Any] = {}

    def started(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        self.runs[trial_id] = wandb.init(
            project=self.project,
            id=trial_id,
            name=name,
            config=config,
            dir=self.folder,
            resume="allow",
            reinit="create_new",  # trials run side by side in this one process
            settings=wandb.Settings(silent=True, console="off"),
        )

    def epoch(self, trial_id: str, epoch: int, measures: dict[str, float]) -> None:
        self.runs[trial_id].log(measures, step=epoch)

    def ended(self, record: Record, measures: dict[str, float]) -> None:
        run = self.runs.pop(record.trial_id)
        best = {f"best_{name.removeprefix('best_')}": value for name, value in measures.items()}
        run.summary.update({**best, "status": record.status, "error": record.error})
        run.finish(exit_code=1 if record.status == "failed" else 0)

    def close(self, best: Record | None) -> None:
        for run in self.runs.values():
            run.finish(exit_code=1)
