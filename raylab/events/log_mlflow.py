"""Trials as runs of MLflow, in the store of MLFLOW_TRACKING_URI, else in the results directory.

There, `mlflow ui --backend-store-uri sqlite:///RESULTS/mlflow.db` shows them.
"""

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from raylab.errors import Problem, Refused
from raylab.events.logged import own_folder
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record

STORE = "MLFLOW_TRACKING_URI"
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
TRIAL_TAG = "raylab.trial_id"


def make(sweep: str, results: ResultsDirectory) -> "MlflowLogger":
    """The logger of a sweep."""
    uri, artifacts = os.environ.get(STORE), None
    if not uri:
        folder = own_folder(f"mlflow without {STORE}", results)
        uri = f"sqlite:///{folder}/mlflow.db"
        artifacts = Path(folder, "mlflow-artifacts").as_uri()
    return MlflowLogger(client_of(uri), sweep, artifacts, results)


def check() -> None:
    """Refused where MLFLOW_TRACKING_URI names no store; a server that is down may yet come up."""
    uri = os.environ.get(STORE)
    try:
        if uri:
            client_of(uri)
    except Exception as error:  # of MLflow, of a database's driver, of the system
        reason = str(error).strip().partition("\n")[0]
        text = (
            f"{uri} cannot be opened by MLflow ({reason}); give https://host or "
            "sqlite:////path/mlflow.db, or unset it: then the results keep what is logged"
        )
        raise Refused([Problem(STORE, text)], "the environment") from error


def client_of(uri: str) -> MlflowClient:
    """MLflow's own of that store."""
    for name in ("mlflow", "alembic"):  # they tell how they make their tables
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


class MlflowLogger:
    """An experiment per sweep, a run per trial: config as params, an epoch per step."""

    def __init__(
        self, client: MlflowClient, sweep: str, artifacts: str | None, results: ResultsDirectory
    ) -> None:
        self.client, self.sweep, self.artifacts, self.results = client, sweep, artifacts, results
        self.runs: dict[str, str] = {}
        self._experiment_id = ""

    @property
    def experiment_id(self) -> str:
        """Made when the first trial starts: a store takes seconds to begin with."""
        if not self._experiment_id:
            known = self.client.get_experiment_by_name(self.sweep)
            self._experiment_id = (
                known.experiment_id
                if known
                else self.client.create_experiment(self.sweep, self.artifacts)
            )
        return self._experiment_id

    def started(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        run = self.client.create_run(self.experiment_id, run_name=name, tags={TRIAL_TAG: trial_id})
        self.runs[trial_id] = run.info.run_id
        params = [Param(key, str(value)) for key, value in config.items()]
        self.client.log_batch(run.info.run_id, params=params)

    def epoch(self, trial_id: str, epoch: int, measures: dict[str, float]) -> None:
        self._metrics(trial_id, measures, epoch)

    def ended(self, record: Record, measures: dict[str, float]) -> None:
        best = {f"best_{name.removeprefix('best_')}": value for name, value in measures.items()}
        self._metrics(record.trial_id, best, record.best_epoch or 0)
        run_id = self.runs.pop(record.trial_id)
        tags = [RunTag("raylab.family_id", record.family_id)]
        if record.error:
            tags.append(RunTag("raylab.error", f"{record.error_kind}: {record.error}"[:5000]))
        self.client.log_batch(run_id, tags=tags)
        self.client.set_terminated(run_id, STATUS[record.status])

    def close(self, best: Record | None) -> None:
        """The best trial's model goes to its run as the artifact `model`."""
        for run_id in self.runs.values():
            self.client.set_terminated(run_id, "KILLED")
        if best is None or best.trial_id not in self.results.checkpoint_ids():
            return
        wanted = f"tags.`{TRIAL_TAG}` = '{best.trial_id}'"
        runs = self.client.search_runs([self.experiment_id], wanted, max_results=1)
        kept = self.results.checkpoint(best.trial_id)
        with tempfile.TemporaryDirectory(prefix="raylab-mlflow-") as folder:
            for name in kept.names():
                Path(folder, name).write_bytes(kept.read_bytes(name))
            for run in runs:
                self.client.log_artifacts(run.info.run_id, folder, "model")

    def _metrics(self, trial_id: str, measures: dict[str, float], step: int) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value in measures.items()]
        self.client.log_batch(self.runs[trial_id], metrics=metrics)
