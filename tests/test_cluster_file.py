"""cluster.yaml is a file that `ray up` accepts, closed to the world; no cloud is asked."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return dict(yaml.safe_load(CLUSTER.read_text()))


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_workers_scale_from_zero_on_spot_and_the_head_stays(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_steps_at_its_head_give_an_account_what_spot_workers_need(
    cluster: dict[str, Any],
) -> None:
    text = CLUSTER.read_text()
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in text
    quota, cpus = re.search(r"--desired-value (\d+)", text), re.search(r", (\d+) CPUs\n", text)
    assert quota
    assert cpus
    assert int(quota[1]) == cluster["max_workers"] * int(cpus[1])
    assert f"--region {cluster['provider']['region']} " in text


def test_no_node_gets_the_security_group_that_ray_opens_to_the_world(
    cluster: dict[str, Any],
) -> None:
    assert "security_group" not in cluster["provider"]
    for node in cluster["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"]
    assert "0.0.0.0" not in CLUSTER.read_text()


def test_every_ray_start_asks_for_the_token_and_the_token_reaches_every_node(
    cluster: dict[str, Any],
) -> None:
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "~/.ray/auth_token" in cluster["file_mounts"]


def test_every_command_is_whole_shell(cluster: dict[str, Any]) -> None:
    # In YAML an unquoted ` #` ends the line: a command would lose its end without a word.
    commands = [c for key, value in cluster.items() if key.endswith("commands") for c in value]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_dashboard_listens_on_the_head_only(cluster: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])
