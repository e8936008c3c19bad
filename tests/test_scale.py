"""What must not grow with the number of trials: memory, and the cost of each of them."""

import itertools
import subprocess
import sys
import tracemalloc
from collections import deque
from typing import Any

import pytest
from pydantic import ValidationError

from raylab.config.expand import (
    assignments,
    config_from,
    count_trials,
    exclusion,
    expand,
    replicas,
)
from raylab.config.identity import trial_id
from raylab.config.sweep import SweepConfig

LIGHT = """
import sys
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import read
from raylab.images.source import scan
from raylab.sweep.plan import Plan
print([name for name in ("ray", "torch", "timm", "optuna", "scipy") if name in sys.modules])
"""


def sweep_of(**fields: Any) -> SweepConfig:
    return SweepConfig(**{"name": "test", "data": "toy", **fields})


SWEEPS = {
    "nothing moves": {"trial": {"lr": 0.1}, "seeds": (3, 1)},
    "presets and operations": {
        "trial": {"augment": "light", "epochs": 4},
        "axes": {"augment.rotate_deg": (5, 10), "augment": ("none", {"flip": 0.5}, "strong")},
    },
    "base disagrees, points do not": {
        "trial": {"epochs": 1},
        "axes": {"warmup_epochs": (2.0, 3.0), "epochs": (5, 6), "train_layers": ("all", ["fc"])},
    },
    "zipped over several fields": {
        "axes": {"lr": (0.1, 0.2)},
        "zip": ({"model": ("cnn", "resnet18"), "split.train": (0.7, 0.8), "epochs": (3, 4)},),
        "seeds": (0, 1),
    },
    "folds": {
        "trial": {"split": {"folds": 3}},
        "axes": {"lr": (1, 0.5), "split.seed": (0, 1)},
        "exclude": ({"split.fold": 1, "lr": 0.5}, {"seed": 1, "split.seed": 1}),
        "seeds": (0, 1),
    },
    "folds on an axis": {"axes": {"split.folds": (0, 2, 3), "mixup": (0.0, 1.0)}, "seeds": (0, 1)},
    "left out where it disagrees": {
        "axes": {"epochs": (1, 9), "warmup_epochs": (0, 2), "lr": (0.1, 0.2)},
        "exclude": ({"epochs": 1, "warmup_epochs": 2},),
    },
}


@pytest.mark.parametrize("fields", SWEEPS.values(), ids=SWEEPS)
def test_expansion_gives_what_validating_every_trial_gives(fields: dict[str, Any]) -> None:
    sweep = sweep_of(**fields)
    is_excluded = exclusion(sweep)
    runs = [run for point in assignments(sweep) for run in replicas(sweep, point)]
    slow = [config_from(sweep, *run) for run in runs if not is_excluded(*run)]
    fast = list(expand(sweep))
    assert fast == slow
    assert [trial_id(config, "data") for config in fast] == [trial_id(c, "data") for c in slow]
    assert count_trials(sweep) == len(fast)


def test_expansion_refuses_a_point_that_disagrees_and_a_bad_seed() -> None:
    disagreeing = sweep_of(axes={"epochs": (9, 1), "warmup_epochs": (0.0, 2.0)})
    with pytest.raises(ValidationError, match="must be < epochs 1"):
        list(expand(disagreeing))
    with pytest.raises(ValidationError, match="seed"):
        list(expand(sweep_of(seeds=(0, -1))))


def test_exclusions_of_a_huge_product_are_counted_without_building_it() -> None:
    axes = {key: tuple(range(1, 101)) for key in ("mixup", "cutmix", "lr", "image_size")}
    sweep = sweep_of(axes={**axes, "epochs": (5, 6)}, exclude=({"lr": 3.0, "epochs": 5},))
    assert count_trials(sweep) == 2 * 10**8 - 10**6


def test_expansion_is_flat_in_memory() -> None:
    axes = {"lr": tuple(i / 100 for i in range(1, 101)), "batch_size": tuple(range(1, 101))}
    sweep = sweep_of(axes=axes, seeds=(0, 1))
    few, many = (peak_bytes(sweep, num) for num in (1000, 20_000))
    assert many < few + 2**17


def peak_bytes(sweep: SweepConfig, num: int) -> int:
    """Most memory that is held while `num` configs go by."""
    tracemalloc.start()
    deque(itertools.islice(expand(sweep), num), maxlen=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_plan_and_leaderboard_load_neither_ray_nor_torch_nor_scipy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
