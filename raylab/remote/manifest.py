"""A sweep as a Kubernetes manifest: a RayJob of KubeRay, with the cluster that runs it inside."""

import shlex
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import yaml

from raylab import __version__
from raylab.config.identity import digest
from raylab.config.sweep import SweepConfig
from raylab.errors import Problem, Refused
from raylab.remote.reach import out_of_reach
from raylab.storage import Folder
from raylab.sweep.growth import WORKERS

GRID_FOLDER = "/etc/raylab"
GRID, SCRIPT = "grid.yaml", "run.sh"
STORAGE_SECRET = "raylab-storage"
IDLE_TIMEOUT_S = 300
DEFAULT_IMAGE = f"raylab:{__version__}"

HEADER = """\
# kubectl apply -f this; KubeRay 1.5.1 or newer starts the cluster, runs the sweep and takes the
# cluster away again. Needed once in the namespace:
#   an image {image} that the nodes can pull: FROM rayproject/ray:{ray}-py311-gpu, then
#     COPY . /raylab  and  RUN pip install /raylab boto3
#   the keys of the storage (left away where the nodes' own role may read and write it):
#     kubectl create secret generic {secret} --from-literal=AWS_ACCESS_KEY_ID=… \\
#       --from-literal=AWS_SECRET_ACCESS_KEY=… --from-literal=AWS_DEFAULT_REGION=…
# A RayJob that has ended stays, and applying this again starts nothing. For another run, which
# reuses all that is finished:  kubectl delete rayjob {name}  first.
# KubeRay makes the cluster's token and keeps it in a Secret. The dashboard is for a port-forward:
#   kubectl port-forward service/$(kubectl get service -o name | grep head-svc) 8265
"""


@dataclass(frozen=True, slots=True)
class Machines:
    """The pods of the cluster. CPUs and memory are what one worker pod asks of its node."""

    image: str = DEFAULT_IMAGE
    max_workers: int = 8
    gpus: int = 1
    """Per worker pod."""
    cpus: int = 8
    memory: str = "32Gi"


def manifest(sweep: SweepConfig, results: str, machines: Machines) -> str:
    """YAML documents: the grid and the command as a ConfigMap, and the RayJob. Another grid, place
    of results or cluster has another name.

    Raises Refused where pods could not reach the images, the weights or the results.
    """
    problems = list(out_of_reach(sweep))
    if Folder(results).is_local:
        text = f"{results} would be gone with its pod; give --results s3://…"
        problems.append(Problem("results", text))
    if problems:
        raise Refused(problems, "the request", "no manifest was written")
    grid = sweep.as_grid()
    asked = digest({"grid": grid, "results": results, "machines": asdict(machines)}, 8)
    name = f"raylab-{kubernetes_name(sweep.name)}-{asked}"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {
            GRID: yaml.safe_dump(grid, sort_keys=False, allow_unicode=True),
            SCRIPT: script(results),
        },
    }
    header = HEADER.format(
        name=name, image=machines.image, ray=version("ray"), secret=STORAGE_SECRET
    )
    documents = [config_map, ray_job(name, machines)]
    return header + yaml.dump_all(documents, Dumper=Plain, sort_keys=False, allow_unicode=True)


def script(results: str) -> str:
    """What the head runs: an entrypoint itself is read by two shells, quotes and `&` with it."""
    command = ["raylab", "sweep", f"{GRID_FOLDER}/{GRID}", "--address", "auto"]
    return f"exec {shlex.join([*command, '--results', results])}\n"


def ray_job(name: str, machines: Machines) -> dict[str, Any]:
    """One run of the sweep. Tried again once on a new cluster, where it goes on."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": f"bash {GRID_FOLDER}/{SCRIPT}",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": IDLE_TIMEOUT_S,
            "backoffLimit": 1,
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {"idleTimeoutSeconds": IDLE_TIMEOUT_S},
                "headGroupSpec": head_group(name, machines),
                "workerGroupSpecs": [worker_group(machines)],
            },
        },
    }


def head_group(name: str, machines: Machines) -> dict[str, Any]:
    """The head coordinates and reads the grid; trials on it would starve it."""
    workers = f"{machines.max_workers}x{machines.cpus}x{machines.gpus}"
    container = {
        "name": "ray-head",
        **container_base(machines.image, {"cpu": "2", "memory": "8Gi"}),
        "volumeMounts": [{"name": "grid", "mountPath": GRID_FOLDER, "readOnly": True}],
        "env": [{"name": WORKERS, "value": workers}],
    }
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0"},
        "template": {
            "spec": {
                "securityContext": pod_security(),
                "containers": [container],
                "volumes": [{"name": "grid", "configMap": {"name": name}}],
            }
        },
    }


def worker_group(machines: Machines) -> dict[str, Any]:
    """Workers come with the trials and go when idle."""
    wanted = {"cpu": str(machines.cpus), "memory": machines.memory}
    if machines.gpus:
        wanted["nvidia.com/gpu"] = str(machines.gpus)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "securityContext": pod_security(),
        "containers": [{"name": "ray-worker", **container_base(machines.image, wanted)}],
    }
    if machines.gpus:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    return {
        "groupName": "gpu" if machines.gpus else "cpu",
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": machines.max_workers,
        "rayStartParams": {},
        "template": {"spec": spec},
    }


def container_base(image: str, resources: dict[str, str]) -> dict[str, Any]:
    """What head and worker containers share: KubeRay wants requests and limits to agree."""
    return {
        "image": image,
        "resources": {"requests": resources, "limits": resources},
        "envFrom": [{"secretRef": {"name": STORAGE_SECRET, "optional": True}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def pod_security() -> dict[str, Any]:
    """Ray's images run as user 1000, and need no more."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def kubernetes_name(name: str) -> str:
    """Lower-case letters, digits and dashes, short enough for what KubeRay appends."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return kept.strip("-")[:30].strip("-") or "sweep"


class Plain(yaml.SafeDumper):
    """YAML without anchors, and the grid's text as it was written."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Plain.add_representer(str, _text)
