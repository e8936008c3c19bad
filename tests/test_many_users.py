"""A cluster that grows and shrinks, and one that two sweeps share: real heads beside the tests."""

import itertools
import json
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from one_head import ROOT, Head, ray_head

from raylab.results.directory import ResultsDirectory

GRID = """
name: shared
data: toy:num=140
trial: {model: cnn, image_size: 16, channels: 1, epochs: 3, batch_size: 32, amp: none}
axes: {lr: [1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4]}
"""


def start(head: Head, place: Path, name: str, *more: str) -> "subprocess.Popen[str]":
    (place / "grid.yaml").write_text(GRID)
    arguments = ["sweep", str(place / "grid.yaml"), "--address", head.gcs, *more]
    return subprocess.Popen(
        head.raylab(*arguments, "--results", str(place / name)),
        env={**head.env, "PYTHONPATH": str(ROOT)},
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(sweep: "subprocess.Popen[str]") -> None:
    _, story = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, story


def interval(row: dict[str, Any]) -> tuple[datetime, datetime]:
    begun = datetime.fromisoformat(row["started_at"])
    return begun, begun + timedelta(seconds=row["seconds"])


@pytest.mark.slow
def test_two_sweeps_with_a_cap_make_progress_side_by_side(tmp_path: Path) -> None:
    with ray_head(tmp_path) as head:
        cap = ("--set", "resources.max_concurrent=1", "--set", "trial.epochs=400")
        both = [start(head, tmp_path, name, *cap) for name in ("mine", "yours")]
        for sweep in both:
            finish(sweep)
    spans = []
    for name in ("mine", "yours"):
        rows = ResultsDirectory(tmp_path / name).leaderboard().to_pylist()
        assert [row["status"] for row in rows] == ["complete"] * 4
        trials = sorted(interval(row) for row in rows)
        for (_, ended), (begun, _) in itertools.pairwise(trials):
            assert begun >= ended - timedelta(seconds=0.5)  # never two of one sweep at once
        spans.append(trials)
    # Each had finished a trial before the other's last one began.
    assert spans[0][0][1] < spans[1][-1][0]
    assert spans[1][0][1] < spans[0][-1][0]


@pytest.mark.slow
def test_workers_come_for_the_trials_and_go_when_idle(tmp_path: Path) -> None:
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    config = {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "provider": {"type": "fake_multinode"},
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": worker,
        },
        "head_node_type": "head",
    }
    (tmp_path / "autoscaling.json").write_text(json.dumps(config))
    growing = f"--autoscaling-config={tmp_path / 'autoscaling.json'}"
    env = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    env["RAY_enable_autoscaler_v2"] = "0"
    with ray_head(tmp_path, 0, growing, **env) as head:
        assert head.num_nodes() == 1
        sweep = start(head, tmp_path, "results", "--set", "trial.epochs=300")
        most = 1
        while sweep.poll() is None:
            most = max(most, head.num_nodes())
            time.sleep(0.5)
        finish(sweep)
        assert most == 3
        rows = ResultsDirectory(tmp_path / "results").leaderboard().to_pylist()
        assert [row["status"] for row in rows] == ["complete"] * 4
        trials = sorted(interval(row) for row in rows)
        assert any(nxt[0] < ended for (_, ended), nxt in itertools.pairwise(trials))
        ends_at = time.monotonic() + 40
        while head.num_nodes() > 1:
            assert time.monotonic() < ends_at, "idle workers stay"
            time.sleep(0.5)
