"""What a trial keeps of itself to go on from, and when it does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.errors import CannotWrite
from raylab.sweep import trial
from raylab.sweep.trial import Reporter
from raylab.training.epoch import Best
from raylab.training.worker import Collective

STATE = {"epochs": [], "model": {"weight": torch.ones(2)}}


def reporter(place: Path, metric: str = "val_accuracy", world: int = 1) -> Reporter:
    job: dict[str, Any] = {
        "results": str(place),
        "trial_id": "aaa",
        "metric": metric,
        "val_ids": [],
        "may_prune": False,
    }
    shard: Any = SimpleNamespace(train=np.arange(3))
    collective = Collective(world=world)
    return Reporter(job, shard, TrialConfig(), collective, Best(), torch.device("cpu"))


def test_a_trial_goes_on_from_the_state_that_another_process_left(tmp_path: Path) -> None:
    assert reporter(tmp_path).resume_state() is None
    reporter(tmp_path).write_state(STATE)
    again = reporter(tmp_path)
    state = again.resume_state()
    assert state is not None
    assert torch.equal(state["model"]["weight"], torch.ones(2))
    assert again.constants["has_state"]


@pytest.mark.parametrize(
    ("where", "name", "other"),
    [
        (trial, "code_digest", lambda: "another"),
        (trial, "version", lambda package: "0.0"),
        (torch, "__version__", "0.0"),
    ],
    ids=["raylab", "timm", "torch"],
)
def test_a_state_is_not_gone_on_from_by_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, other: Any
) -> None:
    reporter(tmp_path).write_state(STATE)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, other)
        again = reporter(tmp_path)
        assert again.resume_state() is None
        assert again.constants["has_state"]  # which is deleted when the trial has ended
    assert reporter(tmp_path).resume_state() is not None


def test_a_state_is_not_gone_on_from_for_another_metric(tmp_path: Path) -> None:
    reporter(tmp_path).write_state(STATE)
    assert reporter(tmp_path, "val_loss").resume_state() is None


def test_a_worker_group_begins_anew_and_tells_of_the_state_that_it_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.ray.util, "get_current_placement_group", lambda: None)
    reporter(tmp_path).write_state(STATE)
    group = reporter(tmp_path, world=2)
    assert group.resume_state() is None
    assert group.constants["has_state"]


@pytest.mark.parametrize("error", [CannotWrite("states cannot be written\nMend it"), OSError("no")])
def test_a_trial_whose_state_cannot_be_written_goes_on_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(trial_id: str, content: Any) -> None:
        raise error

    found = reporter(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(found.results, "write_state", refuse)
        found.write_state(STATE)
    assert found.constants["state_error"] in ("states cannot be written", "no")
    assert not found.constants.get("has_state")
    found.write_state(STATE)
    assert "state_error" not in found.constants
    assert found.constants["has_state"]
