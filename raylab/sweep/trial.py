"""One trial on Ray Train: from a config and shared images to epochs, predictions and weights.

One worker runs in Ray Train's local mode inside the Tune actor that called; several are a worker
group under DDP. Both run `train_worker`. What fails through the config is reported, not raised: an
exception would cost the warm actor, and no retry heals a bad value.
"""

import gc
import io
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import ray.tune
import torch
from ray.train import WorkerGroupError
from ray.tune.integration.ray_train import TuneReportCallback

from raylab.config.identity import digest
from raylab.config.sweep import EPOCH_METRICS, metric_mode
from raylab.config.trial import TrialConfig
from raylab.errors import CannotWrite
from raylab.images.mapped import mapped_pixels
from raylab.images.variant import Format
from raylab.results.directory import ResultsDirectory
from raylab.results.environment import code_digest
from raylab.sweep.cluster import Slot
from raylab.sweep.failures import OUT_OF_MEMORY, pause_before
from raylab.sweep.parents import begun
from raylab.sweep.raised import CONFIG_ERRORS, cause_of, failure_of, is_crowded
from raylab.sweep.shards import (
    Datasets,
    Shard,
    cut,
    deal,
    resident_pixels,
    trained_places,
    variant_pixels,
)
from raylab.sweep.shared import Shared
from raylab.training.checkpoint import save_model
from raylab.training.device import device_for, device_name
from raylab.training.epoch import Best, EpochRow
from raylab.training.heap import give_back_memory, keep_freed_memory
from raylab.training.loop import train
from raylab.training.memory import breaks_process
from raylab.training.pixels import as_tensor
from raylab.training.worker import Collective, TrainingData, data_parallel

# A trial that dies, or whose sweep does, is taken up again from a state at most this old.
CHECKPOINT_EVERY_S = float(os.environ.get("RAYLAB_CHECKPOINT_EVERY_S", "60"))


def run_trial(params: dict[str, Any], shared: Shared) -> None:
    """The Tune function: trains the config in `params` and reports every epoch.

    Raises only what a retry can heal; a config that cannot train reports `error_kind`, `error`.
    """
    if "given_up" in params:  # one process more, only to say so: Tune itself would not stop
        ray.tune.report(params["given_up"])
        return
    time.sleep(pause_before(params.get("num_restarts", 0)))
    freeze_imports()
    try:
        trainer_for(params, shared).fit()
    except CannotWrite:
        raise  # no config's fault
    except (*CONFIG_ERRORS, MemoryError) as error:
        if breaks_process(error) or is_crowded(error, shared.slot):
            raise
        report_failure(params, shared, error)
    except WorkerGroupError as error:
        cause = cause_of(error)
        if cause is None or is_crowded(cause, shared.slot):
            raise
        report_failure(params, shared, cause)
    finally:
        release_memory()


@cache
def freeze_imports() -> None:
    """Once in a process: what the imports left is no trial's garbage, and costs 0.3 s a search."""
    gc.freeze()


def release_memory() -> None:
    """A reused process starts the next trial without the last one's tensors.

    Tune prunes by raising SystemExit, in whose traceback the training would still hold them.
    """
    traceback.clear_frames(sys.exc_info()[2])
    gc.collect()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def report_failure(params: dict[str, Any], shared: Shared, error: Exception) -> None:
    """Tell Tune the cause in one line, and leave the traceback in the trial's log."""
    story = "".join(traceback.format_exception(error))
    ResultsDirectory(shared.results).write_log(params["trial_id"], story)
    failure = failure_of(error)
    may_heal = failure.kind == OUT_OF_MEMORY  # of a larger machine's memory, or an idler one's
    told = {"error_kind": failure.kind, "error": failure.text, "may_heal": may_heal}
    ray.tune.report(told)


def trainer_for(params: dict[str, Any], shared: Shared) -> ray.train.torch.TorchTrainer:
    """The trial's TorchTrainer with its Ray Dataset: whole and shared, or cut into shards."""
    config = TrialConfig.model_validate(params["config"])
    workers = shared.slot.workers
    prepared = shared.variants[Format.of(config)]
    job: dict[str, Any] = {
        "config": params["config"],
        "trial_id": params["trial_id"],
        "num_heard": params.get("num_heard", 0),
        "results": shared.results,
        "metric": shared.metric,
        "keep_weights": shared.keep_weights,
        "may_prune": shared.may_prune,
        "use_gpu": shared.slot.gpus_per_worker > 0,
        "classes": shared.images.classes,
        "variant": prepared.variant,
        "cpus": shared.slot.cpus_per_worker,
        "is_mapped": prepared.dataset is None,
    }
    sides = trained_places(shared.images, config)
    if not len(sides.train) or not len(sides.val):
        raise ValueError("the split leaves no image to train or to validate on")
    ids = shared.images.table["image_id"].take(pa.array(sides.val)).to_pylist()
    job |= {"val_ids": ids, "val_labels": shared.images.labels[sides.val]}
    taught = shared.images.taught(config, sides.val)
    shards = deal(shared.images, sides, workers, taught)
    datasets: Datasets = {}
    if prepared.dataset is not None and workers == 1:
        datasets = {"images_0": prepared.dataset}
    elif prepared.dataset is not None:
        shards, datasets = cut(shards, variant_pixels(prepared.dataset, prepared.variant))
    job["shards"] = shards
    if workers == 1:
        return local_trainer(job, datasets)
    return group_trainer(job, datasets, shared.slot)


def local_trainer(job: dict[str, Any], datasets: Datasets) -> ray.train.torch.TorchTrainer:
    """The trainer of the only worker: Ray Train's local mode, in this process."""
    return ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(num_workers=0),
        datasets=datasets,
    )


def group_trainer(
    job: dict[str, Any], datasets: Datasets, slot: Slot
) -> ray.train.torch.TorchTrainer:
    """The trainer of a worker group, each worker with a shard of its own."""
    filesystem, path = ResultsDirectory(job["results"]).scratch("train").opened()
    return ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(
            num_workers=slot.workers,
            use_gpu=slot.gpus_per_worker > 0,
            resources_per_worker=worker_resources(slot),
        ),
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),  # they are shards already
        datasets=datasets,
        run_config=ray.train.RunConfig(
            name=job["trial_id"],
            storage_path=path,
            storage_filesystem=filesystem,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # as Ray's guide does
        ),
    )


def worker_resources(slot: Slot) -> dict[str, float]:
    """What Ray Train reserves for one worker of a group."""
    gpus = {"GPU": slot.gpus_per_worker} if slot.gpus_per_worker else {}
    return {"CPU": float(slot.cpus_per_worker), **gpus}


def train_worker(job: dict[str, Any]) -> None:
    """One worker of a trial; the same for the only worker and for each of a group."""
    torch.set_num_threads(job["cpus"])
    keep_freed_memory()
    world = len(job["shards"])
    # In local mode, inside a Tune function, ray.train refuses to be asked for its context.
    rank = ray.train.get_context().get_world_rank() if world > 1 else 0
    config = TrialConfig.model_validate(job["config"])
    shard: Shard = job["shards"][rank]
    data = TrainingData(
        images=as_tensor(worker_pixels(job, config, rank)),
        labels=shard.labels,
        train_rows=shard.train,
        val_rows=shard.val,
        classes=tuple(job["classes"]),
        pixel_rows=shard.pixel_rows,
        soft_labels=shard.soft_labels,
    )
    device = device_for(job["use_gpu"])
    if device.type == "cuda":  # Ray knows which of a node's GPUs is whose
        device = ray.train.torch.get_device()
    collective = collective_for(rank, world, device)
    best = Best()
    # Metrics of the whole trial (seconds) leave the choice of the epoch to val_accuracy.
    ranks = job["metric"] if job["metric"] in EPOCH_METRICS else "val_accuracy"
    with begun(config, job["results"]) as trained:
        reporter = Reporter(job, shard, trained, collective, best, device)
        train(
            trained,
            data,
            device,
            collective,
            reporter.epoch,
            reporter.resume_state(),
            metric=ranks,
            mode=metric_mode(ranks),
            best=best,
            resumed=reporter.replay,
        )


def worker_pixels(job: dict[str, Any], config: TrialConfig, rank: int) -> npt.NDArray[np.uint8]:
    """uint8 (N, S, S, C): the pixels that this worker's shard points into."""
    if job["is_mapped"]:
        return mapped_pixels(job["variant"])
    dataset = ray.train.get_dataset_shard(f"images_{rank}")
    if len(job["shards"]) == 1:
        return variant_pixels(dataset, job["variant"])
    return resident_pixels(dataset, job["trial_id"], config.image_size, config.channels)


def collective_for(rank: int, world: int, device: torch.device) -> Collective:
    """How the workers of this trial add up counts and average gradients."""
    if world == 1:
        return Collective()

    def sum_counts(counts: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.asarray(counts, dtype=np.float64)).to(device)
        torch.distributed.all_reduce(tensor)
        return tensor.cpu().numpy()

    wrap = partial(data_parallel, device=device)
    return Collective(rank=rank, world=world, sum_counts=sum_counts, wrap=wrap)


class Reporter:
    """Brings a worker's epochs to Tune, and its best epoch's predictions and weights to storage."""

    def __init__(
        self,
        job: dict[str, Any],
        shard: Shard,
        config: TrialConfig,
        collective: Collective,
        best: Best,
        device: torch.device,
    ) -> None:
        self.job, self.shard, self.config = job, shard, config
        self.collective, self.best, self.device = collective, best, device
        self.results = ResultsDirectory(job["results"])
        self.last_state_at = time.monotonic()
        self.written_epoch = 0
        num_train = collective.sum_counts(np.array([len(shard.train)], dtype=np.float64))
        self.constants: dict[str, Any] = {
            "num_train": int(num_train[0]),
            "num_val": len(job["val_ids"]),
            "num_workers": collective.world,
            "device": device_name(device),
        }
        if collective.world > 1:  # so that the driver can end the group of a pruned trial
            group = ray.util.get_current_placement_group()
            self.constants["placement_group"] = group.id.hex() if group else None

    def resume_state(self) -> dict[str, Any] | None:
        """The state to go on from, where an earlier process of this trial left one, in this sweep
        or before it was interrupted. A worker group, which keeps none, begins anew.
        """
        content = self.results.state(self.job["trial_id"])
        self.constants["has_state"] = content is not None
        if content is None or self.collective.world > 1:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        except (EOFError, RuntimeError, UnpicklingError):  # torn where the power went
            return None
        return state if state.get("meant") == self.meaning else None

    @property
    def meaning(self) -> str:
        """What a state has to be of, so that it can be gone on from: another raylab, torch or timm
        may learn otherwise, another metric has another best epoch, and what one split validates
        another may have trained on.
        """
        sides = digest([self.job["val_ids"], self.shard.train.tolist()])
        versions = f"torch {torch.__version__} timm {version('timm')}"
        return f"raylab {code_digest()} {versions} {self.job['metric']} {sides}"

    def replay(self, rows: list[EpochRow]) -> None:
        """Report the epochs of which this driver has not heard, since another one began them, or
        the process died between keeping its state and its report.
        """
        for row in rows[self.job["num_heard"] :]:
            ray.tune.report({**asdict(row), **self.constants, "is_replayed": True})

    def epoch(self, row: EpochRow, state: Callable[[], dict[str, Any]]) -> None:
        """Report one epoch; ends by SystemExit if the scheduler prunes the trial here.

        What may be the last word is on storage first: Tune does not wait for a stopped trial.
        """
        is_over = row.is_last
        if is_over or self.job["may_prune"]:
            self.write_predictions()
        if is_over and self.job["keep_weights"] and self.collective.rank == 0:
            self.write_weights(row.precision)
        if self.collective.world > 1:
            ray.train.report({**asdict(row), **self.constants})
            return
        if not is_over and time.monotonic() - self.last_state_at >= CHECKPOINT_EVERY_S:
            self.write_state(state())
        ray.tune.report({**asdict(row), **self.constants})

    def write_state(self, state: dict[str, Any]) -> None:
        """What another process of the trial would go on from, on the results' storage. Where that
        does not take it, the trial goes on and says so; it tries again when the next one is due.
        """
        self.last_state_at = time.monotonic()
        sink = io.BytesIO()
        torch.save({"meant": self.meaning, **state}, sink)
        try:
            self.results.write_state(self.job["trial_id"], sink.getbuffer())
        except (CannotWrite, OSError) as error:
            self.constants["state_error"] = str(error).partition("\n")[0]
            return
        self.constants["has_state"] = True
        self.constants.pop("state_error", None)

    def write_predictions(self) -> None:
        """All workers bring their rows together; rank 0 writes the table."""
        if self.best.epoch == self.written_epoch or self.best.probs is None:
            return
        self.written_epoch = self.best.epoch
        probs = np.zeros((len(self.job["val_ids"]), self.best.probs.shape[1]), dtype=np.float64)
        probs[self.shard.val_order] = self.best.probs
        probs = self.collective.sum_counts(probs)
        if self.collective.rank == 0:
            classes = self.job["classes"]
            labels = [classes[label] for label in self.job["val_labels"]]
            self.results.write_predictions(
                self.job["trial_id"], self.job["val_ids"], labels, probs, classes
            )

    def write_weights(self, precision: str) -> None:
        """The best epoch's model with all that predicting with it needs."""
        assert self.best.state is not None
        classes = tuple(self.job["classes"])
        named = TrialConfig.model_validate(self.job["config"])
        target = self.results.checkpoint(self.job["trial_id"])
        save_model(target, self.config, classes, self.best.state, precision, named)
