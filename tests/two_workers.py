"""One worker of several, for test_loop: `python two_workers.py RANK WORLD STORE OUT CONFIGS`."""

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from small_data import small_data
from torch import distributed, nn

from raylab.config.trial import TrialConfig
from raylab.training.loop import train
from raylab.training.worker import Collective, data_parallel


def sum_counts(counts):
    total = torch.from_numpy(np.array(counts, np.float64))
    distributed.all_reduce(total)
    return total.numpy()


def answer(config, data, collective):
    outcome = train(config, data, torch.device("cpu"), collective, lambda row, state: None)
    return {
        "epochs": [asdict(row) for row in outcome.epochs],
        "num_probs": len(outcome.best_probs),
        "has_state": outcome.best_state is not None,
    }


def running_mean(collective):
    """What BatchNorm remembers of three batches whose every value is the worker's rank."""
    norm = nn.BatchNorm1d(1)
    model = collective.wrap(norm)
    for _ in range(3):
        model(torch.full((4, 1), float(collective.rank))).sum().backward()
    collective.average_buffers(norm)
    return float(norm.running_mean)


def main(rank, world, store, out, configs):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    data = small_data(num_train=45, num_val=31)  # neither divides by two
    own = replace(
        data, train_rows=data.train_rows[rank::world], val_rows=data.val_rows[rank::world]
    )
    wrap = partial(data_parallel, device=torch.device("cpu"))
    collective = Collective(rank, world, sum_counts, wrap)
    answers = [answer(TrialConfig(**c), own, collective) for c in json.loads(configs)]
    answers.append(running_mean(collective))
    Path(out).write_text(json.dumps(answers))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
