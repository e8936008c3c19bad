"""The Kubernetes manifest: Ray's own KubeRay code reads it, and its fields are KubeRay's."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from typer.testing import CliRunner

from raylab.cli import app
from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.errors import Refused
from raylab.remote.manifest import Machines, kubernetes_name, manifest
from raylab.sweep.growth import WORKERS

GRIDS = Path(__file__).parent.parent / "grids"


def obj(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A mapping with these keys and no others: the API server drops unknown ones silently."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def array(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


# Kept by hand after the field reference of KubeRay 1.6 (ray.io/v1) and of Kubernetes' pods: only
# the fields that raylab writes. KubeRay's own generated schema is 20,000 lines long.
CONTAINER = obj(
    ("name", "image", "resources"),
    name=TEXT,
    image=TEXT,
    resources=obj(("requests", "limits"), requests=TEXTS, limits=TEXTS),
    env=array(obj(("name", "value"), name=TEXT, value=TEXT)),
    envFrom=array(obj(("secretRef",), secretRef=obj(("name",), name=TEXT, optional=FLAG))),
    securityContext=obj(allowPrivilegeEscalation=FLAG, capabilities=obj(drop=array(TEXT))),
    volumeMounts=array(obj(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
POD = obj(
    ("spec",),
    spec=obj(
        ("containers",),
        automountServiceAccountToken=FLAG,
        containers=array(CONTAINER),
        securityContext=obj(
            runAsNonRoot=FLAG, runAsUser=NUMBER, seccompProfile=obj(("type",), type=TEXT)
        ),
        tolerations=array(obj(key=TEXT, operator={"enum": ["Exists", "Equal"]})),
        volumes=array(obj(("name",), name=TEXT, configMap=obj(("name",), name=TEXT))),
    ),
)
CLUSTER = obj(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=obj(("mode",), mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=obj(idleTimeoutSeconds=NUMBER),
    headGroupSpec=obj(
        ("rayStartParams", "template"),
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        rayStartParams=TEXTS,
        template=POD,
    ),
    workerGroupSpecs=array(
        obj(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams=TEXTS,
            template=POD,
        )
    ),
)
RAY_JOB = obj(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=obj(("name",), name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,45})$"}),
    spec=obj(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=NUMBER,
        backoffLimit=NUMBER,
        rayClusterSpec=CLUSTER,
    ),
)


@pytest.fixture(scope="module")
def text() -> str:
    sweep = read_grid(GRIDS / "aug.yaml", data="s3://b/faces", overrides=["resources.workers=2"])
    return manifest(sweep, "s3://b/results/aug", Machines(max_workers=5))


@pytest.fixture(scope="module")
def job(text: str) -> dict[str, Any]:
    return dict(list(yaml.safe_load_all(text))[1])


def test_the_job_has_only_fields_that_kuberay_knows(job: dict[str, Any]) -> None:
    jsonschema.validate(job, RAY_JOB)


def test_rays_own_autoscaler_reads_the_cluster(job: dict[str, Any]) -> None:
    cluster = {
        "metadata": {"name": "x", "namespace": "default"},
        "spec": job["spec"]["rayClusterSpec"],
    }
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    worker = types["gpu"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, 5)
    assert (worker["resources"]["CPU"], worker["resources"]["GPU"]) == (8, 1)


def test_the_grid_travels_whole_and_lies_where_the_entrypoint_reads_it(
    text: str, job: dict[str, Any], tmp_path: Path
) -> None:
    config_map = next(yaml.safe_load_all(text))
    (tmp_path / "grid.yaml").write_text(config_map["data"]["grid.yaml"], encoding="utf-8")
    again = read_grid(tmp_path / "grid.yaml")
    assert again.resources.workers == 2
    assert again.data == "s3://b/faces"
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert job["spec"]["entrypoint"] == f"bash {mount['mountPath']}/run.sh"
    assert f"raylab sweep {mount['mountPath']}/grid.yaml" in config_map["data"]["run.sh"]
    assert head["volumes"][0]["configMap"]["name"] == config_map["metadata"]["name"]


def test_any_place_of_results_reaches_the_command_whole(tmp_path: Path) -> None:
    results = "s3://b/it's 기쁨?scheme=http&endpoint_override=minio:9000"
    config_map, job = yaml.safe_load_all(
        manifest(SweepConfig(name="x", data="toy"), results, Machines())
    )
    assert re.fullmatch(r"[\w/. ]+", job["spec"]["entrypoint"])  # two shells read it, unquoted
    stub = tmp_path / "raylab"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    stub.chmod(0o755)
    (tmp_path / "run.sh").write_text(config_map["data"]["run.sh"], encoding="utf-8")
    done = subprocess.run(
        ["bash", str(tmp_path / "run.sh")],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-2:] == ["--results", results]
    assert done.returncode == 3


def name_of(sweep: SweepConfig, results: str = "s3://b/r", machines: Machines | None = None) -> str:
    documents = list(yaml.safe_load_all(manifest(sweep, results, machines or Machines())))
    (name,) = {document["metadata"]["name"] for document in documents}
    return str(name)


def test_each_sweep_has_a_name_of_its_own_and_the_same_one_again() -> None:
    sweep = SweepConfig(name="aug 1", data="toy")
    others = [
        *(name_of(SweepConfig(name=name, data="toy")) for name in ("aug-1", "표정", "감정")),
        *(name_of(SweepConfig(name=f"{'a' * 40}{i}", data="toy")) for i in (1, 2)),
        name_of(SweepConfig(name="aug 1", data="toy", seeds=(1,))),
        name_of(sweep, "s3://b/other"),
        name_of(sweep, machines=Machines(max_workers=2)),
    ]
    names = [name_of(sweep), *others]
    assert len(set(names)) == len(names)
    assert name_of(sweep) == names[0]
    pattern = RAY_JOB["properties"]["metadata"]["properties"]["name"]["pattern"]
    assert all(re.match(pattern, name) for name in names)


def test_the_head_of_the_file_says_how_to_run_it_again(text: str, job: dict[str, Any]) -> None:
    assert f"kubectl delete rayjob {job['metadata']['name']} " in text


def test_a_token_is_asked_for_and_no_secret_stands_in_the_file(
    text: str, job: dict[str, Any]
) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "AWS_SECRET_ACCESS_KEY=…" in text  # in the comment, to be filled in on a terminal
    values = [line.strip() for line in text.splitlines() if "value:" in line]
    assert values == ["value: 5x8x1"]  # the workers that there may be
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": WORKERS, "value": "5x8x1"}]


def test_a_sweep_that_pods_could_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        manifest(SweepConfig(name="x", data=str(tmp_path)), "results/x", Machines())
    assert [problem.place for problem in refusal.value.problems] == ["data", "results"]


def test_any_name_of_a_grid_becomes_one_that_kubernetes_takes() -> None:
    assert kubernetes_name("Image_Size 2") == "image-size-2"
    assert kubernetes_name("기쁨") == "sweep"
    assert len(kubernetes_name("a" * 99)) == 30


def test_the_command_prints_it_and_nothing_else() -> None:
    grid = str(GRIDS / "quickstart.yaml")
    done = CliRunner().invoke(
        app, ["manifest", grid, "--results", "s3://b/r", "--gpus", "0", "--image", "mine:1"]
    )
    assert done.exit_code == 0
    _, job = yaml.safe_load_all(done.stdout)
    jsonschema.validate(job, RAY_JOB)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["template"]["spec"]["containers"][0]["image"] == "mine:1"
    assert "nvidia.com/gpu" not in done.stdout
