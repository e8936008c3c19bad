"""Trackers hear of a sweep, and none of them can hold it up or end it."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.events import logged
from raylab.events.logged import LoggedView, check_loggers
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, record_from
from raylab.sweep.runner import Options, run_sweep

GRID = "name: faces\ndata: toy\naxes: {lr: [0.1, 0.2]}\n"
ROW = {
    **{"train_loss": 1.5, "train_accuracy": 0.4, "val_loss": 1.2, "val_accuracy": 0.5},
    **{"val_macro_f1": 0.4, "lr": 0.1, "seconds": 1.0, "train_images_per_s": 100.0},
}


def sweep_of(folder: Path, loggers: str) -> Any:
    (folder / "grid.yaml").write_text(f"{GRID}loggers: {loggers}\n")
    return read_grid(folder / "grid.yaml")


def run_two_trials(view: LoggedView) -> list[Record]:
    """Two epochs each; the second trial fails in its second one."""
    view.planned(2, [], 2, 4)
    records = []
    for lr in (0.1, 0.2):
        config = TrialConfig(lr=lr, epochs=2)
        rows = [{"epoch": epoch, **ROW, "val_accuracy": 0.3 + epoch / 10} for epoch in (1, 2)]
        failed: dict[str, Any] = {"error_kind": "diverged", "error": "loss became nan"}
        more = failed if lr == 0.2 else {}
        record = record_from(config, "d", "s", rows, "failed" if more else "complete", **more)
        view.started(record.trial_id, config)
        for row in rows:
            view.epoch(record.trial_id, row)
        view.ended(record)
        records.append(record)
    view.close()
    return records


def keep_weights(results: ResultsDirectory, trial_id: str) -> None:
    results.checkpoint(trial_id).write_bytes("model.json", b"{}")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("mlflow", "'mlflow' is not a list"),
        ("[tensorbord]", "did you mean tensorboard"),
        ("[mlflow, mlflow]", "mlflow stands twice"),
    ],
)
def test_loggers_are_checked_with_the_grid(tmp_path: Path, given: str, text: str) -> None:
    with pytest.raises(Refused, match=text):
        sweep_of(tmp_path, given)


def test_a_grid_with_loggers_is_the_same_when_written_again(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "[wandb, tensorboard]")
    assert sweep.as_grid()["loggers"] == ["tensorboard", "wandb"]
    assert "loggers" not in sweep.model_copy(update={"loggers": ()}).as_grid()


def test_a_missing_package_is_refused_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logged.PACKAGES, "mlflow", "no_such_package")
    with pytest.raises(
        Refused, match=r"loggers  mlflow is not installed here; pip install 'raylab"
    ):
        check_loggers(sweep_of(tmp_path, "[mlflow]"))
    check_loggers(sweep_of(tmp_path, "[tensorboard]"))


def test_a_store_that_mlflow_does_not_know_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    sweep = sweep_of(tmp_path, "[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://somewhere")
    monkeypatch.setattr("raylab.sweep.runner.scan", pytest.fail)  # what a sweep begins with
    with pytest.raises(Refused, match=r"(?s)MLFLOW_TRACKING_URI  foo://somewhere .* or unset it"):
        run_sweep(sweep, Options(str(tmp_path / "results")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # down: told when it runs
    check_loggers(sweep)


class Slow:
    """A logger that takes its time, and fails when it should."""

    def __init__(self, fails: bool) -> None:
        self.fails, self.heard, self.thread = fails, 0, ""

    def hear(self) -> None:
        time.sleep(0.02)
        self.heard, self.thread = self.heard + 1, threading.current_thread().name
        if self.fails:
            raise ConnectionError("the server is away")

    def started(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        self.hear()

    def epoch(self, trial_id: str, epoch: int, measures: dict[str, float]) -> None:
        self.hear()

    def ended(self, record: Record, measures: dict[str, float]) -> None:
        self.hear()

    def close(self, best: Record | None) -> None:
        self.hear()


def test_a_logger_that_fails_is_told_once_and_the_others_hear_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loggers = {"mlflow": Slow(fails=True), "wandb": Slow(fails=False)}
    monkeypatch.setattr(logged, "logger_of", lambda name, *_: loggers[name])
    told: list[str] = []
    results = ResultsDirectory(tmp_path / "results")
    view = LoggedView(sweep_of(tmp_path, "[mlflow, wandb]"), results, ["lr"], told.append)
    began_s = time.perf_counter()
    view.started("aaa", TrialConfig(lr=0.1))
    for epoch in range(1, 6):
        view.epoch("aaa", {"epoch": epoch, **ROW})
    assert time.perf_counter() - began_s < 0.1  # nobody waited for them: that takes 0.12
    view.close()
    assert told == ["mlflow fails and is told no more: ConnectionError: the server is away"]
    assert (loggers["mlflow"].heard, loggers["wandb"].heard) == (1, 7)
    assert loggers["wandb"].thread == "raylab-loggers"


def test_tensorboard_gets_curves_and_hyperparameters(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path / "results")
    view = LoggedView(sweep_of(tmp_path, "[tensorboard]"), results, ["lr"], pytest.fail)
    records = run_two_trials(view)
    for record in records:
        files = list((tmp_path / "results" / "tensorboard" / record.trial_id).glob("events*"))
        content = b"".join(file.read_bytes() for file in files)
        assert b"val_accuracy" in content
        assert b"_hparams_/session_start_info" in content


def test_files_are_refused_where_results_are_no_folder(tmp_path: Path) -> None:
    remote = ResultsDirectory("s3://bucket/run")
    with pytest.raises(Refused, match="no local folder"):
        LoggedView(sweep_of(tmp_path, "[tensorboard]"), remote, ["lr"], pytest.fail)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlflow's own, of its store
def test_mlflow_gets_runs_params_metrics_and_the_best_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    results = ResultsDirectory(tmp_path / "results")
    results.write_grid({})
    view = LoggedView(sweep_of(tmp_path, "[mlflow]"), results, ["lr"], pytest.fail)
    best = record_from(TrialConfig(lr=0.1, epochs=2), "d", "s", [], "complete")
    keep_weights(results, best.trial_id)
    records = run_two_trials(view)
    assert records[0].trial_id == best.trial_id
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/results/mlflow.db")
    experiment = client.get_experiment_by_name("faces")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "lr=0.1": "FINISHED",
        "lr=0.2": "FAILED",
    }
    run = runs["lr=0.1"]
    assert run.data.params["lr"] == "0.1"
    assert run.data.params["split.train"] == "0.8"
    assert run.data.metrics["best_val_accuracy"] == 0.5
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    assert [(each.step, each.value) for each in history] == [(1, 0.4), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "model")] == [
        "model/model.json"
    ]
    assert "loss became nan" in runs["lr=0.2"].data.tags["raylab.error"]


@pytest.mark.slow
def test_wandb_writes_a_run_per_trial_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    results = ResultsDirectory(tmp_path / "results")
    results.write_grid({})
    view = LoggedView(sweep_of(tmp_path, "[wandb]"), results, ["lr"], pytest.fail)
    records = run_two_trials(view)
    folders = {path.name for path in (tmp_path / "results" / "wandb").glob("offline-run-*")}
    assert {name.rpartition("-")[2] for name in folders} == {r.trial_id for r in records}
