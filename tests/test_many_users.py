"""A cluster that grows and shrinks, and one that two sweeps share: real heads beside the tests."""

import itertools
import json
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from one_head import ROOT, Head, free_port, ray_head
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
)

from raylab.results.directory import ResultsDirectory

GRID = """
name: shared
data: toy:num=140
trial: {model: cnn, image_size: 16, channels: 1, epochs: 300, batch_size: 32, amp: none}
axes: {lr: [1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4]}
"""

COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands")
COMMANDS += ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


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
    _, story = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, story


def interval(row: dict[str, Any]) -> tuple[datetime, datetime]:
    begun = datetime.fromisoformat(row["started_at"])
    return begun, begun + timedelta(seconds=row["seconds"])


@pytest.mark.slow
def test_two_sweeps_with_a_cap_make_progress_side_by_side(tmp_path: Path) -> None:
    with ray_head(tmp_path) as head:
        cap = ("--set", "resources.max_concurrent=1")
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


def growing(gcs: str) -> dict[str, Any]:
    """A cluster of Ray's fake nodes, which are processes of this machine: two at most."""
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    same_address = ("use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check")
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.3,
        "provider": {
            **{"type": "external", "module": provider, "gcs_address": gcs},
            **{"head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True},
            **dict.fromkeys(same_address, True),
        },
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 100 * 2**20},
                **{"node_config": {}, "min_workers": 0, "max_workers": 2},
            },
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        **{"auth": {}, "file_mounts": {}, "file_mounts_sync_continuously": False},
        **{key: [] for key in COMMANDS},
        **{"cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": []},
        "upscaling_speed": 1.0,
    }


@pytest.mark.slow
def test_workers_come_for_the_trials_and_go_when_idle(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "cluster.json").write_text(json.dumps(growing(f"127.0.0.1:{port}")))
    env = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    scaling = f"--autoscaling-config={tmp_path / 'cluster.json'}"
    with ray_head(tmp_path, 0, scaling, port=port, **env) as head:
        assert head.num_nodes() == 1
        one = ("--set", "axes.lr=[1.0e-3]")
        finish(start(head, tmp_path, "one trial", *one))
        assert head.num_nodes() == 2  # its worker is still there
        sweep = start(head, tmp_path, "results")
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
        ends_at = time.monotonic() + 120
        while head.num_nodes() > 1:
            assert time.monotonic() < ends_at, "idle workers stay"
            time.sleep(0.5)
