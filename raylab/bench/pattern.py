"""Ray's documented pattern for many trials, as its guide shows it; `python -m` runs it alone.

A Tune driver function builds a TorchTrainer with a worker group per trial, Ray Data reads the
image files, and every epoch goes through `iter_torch_batches`.
"""

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
import ray.train.torch
import ray.tune
import torch
from ray.data.datasource.partitioning import Partitioning, PartitionStyle
from ray.tune.integration.ray_train import TuneReportCallback
from torch.nn import functional

from raylab.config.trial import TrialConfig
from raylab.training.model import build_model

# Driver, worker and the reading of images each want a CPU; with fewer they wait for ever.
LOGICAL_CPUS = 4


def train_loop(job: dict[str, Any]) -> None:
    """What runs in the trial's worker; reports how long its optimiser steps took."""
    config = TrialConfig.model_validate(job["config"])
    classes = {name: index for index, name in enumerate(job["classes"])}
    model = ray.train.torch.prepare_model(build_model(config, len(classes)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    shard = ray.train.get_dataset_shard("train")
    steps_s = 0.0
    for epoch in range(config.epochs):
        for batch in shard.iter_torch_batches(
            batch_size=config.batch_size, local_shuffle_buffer_size=1000
        ):
            began = time.perf_counter()
            images = batch["image"].permute(0, 3, 1, 2).float() / 255
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(images), batch["label"]))
            optimizer.step()
            steps_s += time.perf_counter() - began
        ray.train.report({"epoch": epoch, "steps_s": steps_s})


def driver(params: dict[str, Any]) -> None:
    """What Tune runs per trial."""
    job = params["job"]
    classes = {name: index for index, name in enumerate(job["classes"])}
    side = job["config"]["image_size"]

    def to_label(batch: Any) -> Any:
        return {
            "image": batch["image"],
            "label": np.array([classes[name] for name in batch["label"]]),
        }

    images = ray.data.read_images(
        job["folder"],
        size=(side, side),
        mode="RGB",
        partitioning=Partitioning(
            PartitionStyle.DIRECTORY, field_names=["label"], base_dir=job["folder"]
        ),
    )
    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        datasets={"train": images.map_batches(to_label)},
        run_config=ray.train.RunConfig(
            name=f"trial-{params['seed']}",
            storage_path=job["storage"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # as Ray's guide does
        ),
    )
    trainer.fit()


def run(job: dict[str, Any], num_trials: int) -> dict[str, Any]:
    """All trials; `wall_s` from the tuner's start to its end, `steps_s` of all steps."""
    with tempfile.TemporaryDirectory(prefix="raylab-pattern-") as storage:
        began = time.perf_counter()
        grid = ray.tune.Tuner(
            driver,
            param_space={
                "seed": ray.tune.grid_search(list(range(num_trials))),
                "job": {**job, "storage": storage},
            },
            tune_config=ray.tune.TuneConfig(max_concurrent_trials=1),
            run_config=ray.tune.RunConfig(name="pattern", storage_path=storage, verbose=0),
        ).fit()
        wall_s = time.perf_counter() - began
    results = [grid[number] for number in range(len(grid))]
    errors = [str(result.error) for result in results if result.error]
    steps = [(result.metrics or {}).get("steps_s", 0.0) for result in results]
    return {"wall_s": wall_s, "steps_s": sum(steps), "error": errors[0] if errors else None}


def main() -> None:
    """stdin: the job and the number of trials as JSON; stdout's last line: the answer."""
    given = json.load(sys.stdin)
    ray.init(num_cpus=LOGICAL_CPUS, address="local", include_dashboard=False, log_to_driver=False)
    answer = run(given["job"], given["num_trials"])
    ray.shutdown()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
