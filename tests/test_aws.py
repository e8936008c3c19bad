"""cluster.yaml on a mocked EC2 (moto): what `ray up` creates. ssh, scp and rsync are stubs that
only write down what they were asked, since the mock's addresses belong to others.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mocked_aws import CREDENTIALS, moto_server
from one_head import ROOT

boto3 = pytest.importorskip("boto3")

from ray.autoscaler._private.aws.config import bootstrap_aws  # noqa: E402  # imports boto3
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider  # noqa: E402
from ray.autoscaler._private.util import prepare_config  # noqa: E402
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE  # noqa: E402

from raylab.sweep.growth import workers_of  # noqa: E402

REGION = "us-west-2"
SETUP_S = 90


@dataclass
class Account:
    """A mocked account after the steps in cluster.yaml's head, and what ran against it."""

    file: Path
    group: str
    asked: Path
    """One line per call of ssh, scp or rsync."""

    @property
    def ec2(self) -> Any:
        return boto3.client("ec2", region_name=REGION)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    place = tmp_path_factory.mktemp("aws")
    (place / "home" / ".ray").mkdir(parents=True)
    (place / "home" / ".ray" / "auth_token").write_text("the-token-itself")
    asked = stub_programs(place / "bin")
    with moto_server() as port, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "HOME": str(place / "home"),
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        }.items():
            patch.setenv(name, value)
        yield prepare_account(place, asked)


def stub_programs(folder: Path) -> Path:
    """ssh, scp and rsync that contact nobody; the files that they would send stay in `sent`."""
    (folder / "sent").mkdir(parents=True)
    asked = folder / "asked.txt"
    keep = f'for file in "$@"; do [ ! -f "$file" ] || cp "$file" {folder}/sent; done'
    for name in ("ssh", "scp", "rsync"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {asked}\n{keep}\n')
        (folder / name).chmod(0o755)
    return asked


def prepare_account(place: Path, asked: Path) -> Account:
    """Steps 2 and 3 of cluster.yaml's head, and its blanks filled in."""
    ec2, iam = (boto3.client(name, region_name=REGION) for name in ("ec2", "iam"))
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="raylab", Description="raylab", VpcId=vpc)
    group_id = group["GroupId"]
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    ssh["IpRanges"] = [{"CidrIp": "198.51.100.7/32"}]
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[inside, ssh])
    for name in ("raylab-head", "raylab-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    text = (ROOT / "cluster.yaml").read_text().replace("sg-REPLACE", group_id)
    # moto knows no public parameters: what AWS resolves itself is an image id here.
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    name = yaml.safe_load(text)["metadata"]["image"]
    (place / "cluster.yaml").write_text(text.replace(name, image))
    return Account(place / "cluster.yaml", group_id, asked)


@pytest.fixture(scope="module")
def up(account: Account) -> str:
    """What `ray up` said."""
    command = [sys.executable, str(Path(sys.executable).parent / "ray"), "up", "-y"]
    work = account.file.parent / "checkout"
    work.mkdir()
    done = subprocess.run(
        [*command, "--no-config-cache", str(account.file)],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SETUP_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def instances(account: Account) -> list[dict[str, Any]]:
    found = account.ec2.describe_instances()["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def check_closed(account: Account, instance: dict[str, Any], profile: str) -> None:
    """Own firewall only, own role, encrypted disks, and no credentials for forged requests."""
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [account.group]
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
    filters = [{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
    volumes = account.ec2.describe_volumes(Filters=filters)["Volumes"]
    assert volumes
    assert all(volume["Encrypted"] for volume in volumes)


@pytest.mark.slow
def test_the_head_is_behind_its_own_firewall_with_its_own_role_and_encrypted(
    account: Account, up: str
) -> None:
    (head,) = instances(account)
    assert head["InstanceType"] == "m7i.xlarge"
    assert "InstanceLifecycle" not in head  # on demand
    check_closed(account, head, "raylab-head")


@pytest.mark.slow
def test_nothing_is_open_to_the_world(account: Account, up: str) -> None:
    for group in account.ec2.describe_security_groups()["SecurityGroups"]:
        text = str(group["IpPermissions"])
        assert "0.0.0.0/0" not in text, group["GroupName"]
        assert "::/0" not in text, group["GroupName"]


@pytest.mark.slow
def test_the_token_travels_as_a_file_and_stands_in_no_command(account: Account, up: str) -> None:
    asked = account.asked.read_text()
    assert "the-token-itself" not in asked + up
    assert any("auth_token" in line for line in asked.splitlines() if line.startswith("rsync"))
    starts = [line for line in asked.splitlines() if "ray start" in line]
    assert starts
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "pip install" in asked  # this checkout, on every node


@pytest.mark.slow
def test_the_head_is_told_which_workers_there_may_be_and_that_they_have_gpus(
    account: Account, up: str
) -> None:
    (bootstrap,) = account.asked.parent.glob("sent/ray-bootstrap-*")
    assert workers_of(yaml.safe_load(bootstrap.read_text())) == ((8, 1),) * 8


@pytest.mark.slow
def test_a_worker_is_a_spot_instance_with_the_lesser_role(account: Account, up: str) -> None:
    config = prepare_config(yaml.safe_load(account.file.read_text()))
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    node_config = config["available_node_types"]["gpu"]["node_config"]
    tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_USER_NODE_TYPE: "gpu"}
    before = {instance["InstanceId"] for instance in instances(account)}
    provider.create_node(node_config, tags, 1)
    (worker,) = [i for i in instances(account) if i["InstanceId"] not in before]
    assert worker["InstanceType"] == "g5.2xlarge"
    assert worker.get("InstanceLifecycle") == "spot"
    check_closed(account, worker, "raylab-worker")
