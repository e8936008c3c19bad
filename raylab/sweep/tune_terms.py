"""A sweep in Ray Tune's terms: what a trial is called, what it reserves, when it is stopped."""

from collections.abc import Collection, Iterable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raylab.config.possible import possible_values
from raylab.config.sweep import SweepConfig, metric_mode
from raylab.config.trial import TrialConfig
from raylab.events.tally import short_name
from raylab.sweep.cluster import Slot


def name_of(fields: tuple[str, ...], trial: Any) -> str:
    """A Tune trial by what tells it from the others: its values of `fields`."""
    config = TrialConfig.model_validate(trial.config["config"])
    return short_name(config.flat(), fields)


def resources_of(slot: Slot) -> Any:
    """What Tune reserves for a trial: its worker, or next to nothing beside its worker group."""
    if slot.workers > 1:  # the CPUs are its worker group's; a reservation of nothing is refused
        return {"CPU": 0, "memory": 2**20}
    gpus = {"GPU": slot.gpus_per_worker} if slot.gpus_per_worker else {}
    return {"CPU": slot.cpus_per_worker, **gpus}


class Asha(AsyncHyperBandScheduler):
    """Tune's, which goes on where the sweep was interrupted: its rungs hold what was reached till
    then, and it prunes no trial for epochs of which it has decided before.
    """

    def recall(self, epochs: pa.Table, trials: Collection[str]) -> None:
        """Fill the rungs with what these trials, which have ended, reached in their epochs."""
        known: dict[str, Any] = {name: SimpleNamespace(trial_id=name) for name in trials}
        tune: Any = None  # rungs ask it for nothing
        for trial in known.values():
            self.on_trial_add(tune, trial)
        rows = epochs.sort_by("epoch")
        columns = [rows[name].to_pylist() for name in ("trial_id", "epoch", self.metric)]
        for trial_id, epoch, value in zip(*columns, strict=True):
            if trial_id in known and value is not None:
                result = {"epoch": epoch, self.metric: value}
                super().on_trial_result(tune, known[trial_id], result)
        for trial in known.values():
            self.on_trial_remove(tune, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if result.get("is_replayed") else decision


def scheduler_of(sweep: SweepConfig, configs: Iterable[TrialConfig]) -> TrialScheduler:
    """Run all to the end, or ASHA over epochs (Li et al. 2020)."""
    if sweep.scheduler.kind == "none":
        return FIFOScheduler()
    epochs = [config.epochs for config in configs]
    base = TrialConfig.model_validate(sweep.trial).epochs
    return Asha(
        time_attr="epoch",
        metric=sweep.metric,
        mode=metric_mode(sweep.metric),
        max_t=max([*epochs, *possible_values(sweep, "epochs", base)]),
        stop_last_trials=False,  # those that reach the end are complete, not stopped
        grace_period=sweep.scheduler.grace_epochs,
        reduction_factor=sweep.scheduler.reduction_factor,
    )
