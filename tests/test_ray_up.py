"""cluster.yaml's own commands on hosts of a rack: `ray up`, sweeps on it and from outside, down."""

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from one_head import ROOT, free_port
from ssh_hosts import Hosts, ssh_hosts

RAY = Path(sys.executable).parent / "ray"
SMALL = (
    "--set data=toy:num=140 --set trial.epochs=1 --set trial.image_size=16 --set trial.model=cnn"
)


def on_premises(hosts: Hosts, token: Path) -> dict[str, Any]:
    """cluster.yaml for hosts that stand there already, as its comment on premises says."""
    cluster = dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    for key in ("available_node_types", "head_node_type", "metadata"):
        del cluster[key]
    cluster["cluster_name"] = f"rack{secrets.token_hex(4)}"
    head, *workers = hosts.addresses
    cluster["provider"] = {"type": "local", "head_ip": head, "worker_ips": workers}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    cluster["min_workers"] = cluster["max_workers"] = len(workers)
    cluster["file_mounts"] = {"~/raylab": str(ROOT), "~/.ray/auth_token": str(token)}
    # No internet here: ssh_hosts put ~/env there, all other commands are the file's own.
    cluster["setup_commands"] = [c for c in cluster["setup_commands"] if "uv" not in c]
    # Where the results of jobs lie has to be on a disk that all hosts mount, too.
    cluster["setup_commands"].append(
        "mkdir -p ~/shared/raylab-results && ln -sfn ~/shared/raylab-results ~/raylab-results"
    )
    shared = "RAY_AUTH_MODE=token RAYLAB_CACHE=~/shared/cache"
    for key, more in (
        ("setup_commands", ""),
        ("head_start_ray_commands", " RAY_enable_autoscaler_v2=0"),
        ("worker_start_ray_commands", ""),
    ):
        cluster[key] = [c.replace("RAY_AUTH_MODE=token", shared + more) for c in cluster[key]]
    return cluster


class Rack:
    """A cluster file and the environment of the one who uses it."""

    def __init__(self, file: Path, home: Path) -> None:
        self.file, self.home = file, home
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYLAB_"))},
            **{"HOME": str(home), "RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)},
            "RAY_TMPDIR": str(home),  # what the launcher notes of the cluster
        }

    def ray(self, *arguments: str, timeout_s: float = 500) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(RAY), *arguments]
        return subprocess.run(
            command,
            env=self.env,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def raylab(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """From outside the cluster."""
        command = [sys.executable, "-m", "raylab", *arguments]
        return subprocess.run(
            command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=500
        )

    def on_head(self, command: str) -> "subprocess.CompletedProcess[str]":
        return self.ray("exec", "--no-config-cache", str(self.file), command)

    @contextlib.contextmanager
    def dashboard(self) -> Iterator[str]:
        """Its address here, forwarded over ssh."""
        port = free_port()
        command = [sys.executable, str(RAY), "dashboard", "--no-config-cache", "-p", str(port)]
        forward = subprocess.Popen(
            [*command, str(self.file)],
            env=self.env,
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            forward.terminate()
            forward.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rack_comes_up_runs_sweeps_and_goes_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    token = home / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    with ssh_hosts(tmp_path, 2) as hosts:
        rack = Rack(tmp_path / "rack.yaml", home)
        rack.file.write_text(yaml.safe_dump(on_premises(hosts, token)))
        up = rack.ray("up", "-y", "--no-config-cache", str(rack.file))
        assert up.returncode == 0, up.stdout
        wait_for_nodes(rack, 2)

        sweep = f"raylab sweep ~/raylab/grids/quickstart.yaml --address auto {SMALL}"
        blind = rack.on_head(f"{sweep} --results ~/only-here")
        assert blind.returncode != 0
        assert f"{hosts.home}/only-here is not seen by" in blind.stdout, blind.stdout
        assert "or a folder that every node mounts" in blind.stdout
        done = rack.on_head(f"{sweep} --set 'axes={{lr: [1.0e-2]}}' --results ~/shared/on-head")
        assert done.returncode == 0, done.stdout
        board = pd.read_parquet(hosts.shared / "on-head" / "leaderboard.parquet")
        assert list(board.status) == ["complete"]

        with rack.dashboard() as url:
            command = ["sweep", str(ROOT / "grids/quickstart.yaml"), "--address", url]
            submitted = rack.raylab(*command, *SMALL.split(), "--set", "axes.lr=[1.0e-3]")
        assert submitted.returncode == 0, submitted.stderr
        assert "2/2 trials" in submitted.stderr  # the job's own log
        board = pd.read_parquet(rack.home / "results" / "quickstart" / "leaderboard.parquet")
        assert list(board.status) == ["complete", "complete"]
        down = rack.ray("down", "-y", str(rack.file))
        assert down.returncode == 0, down.stdout
        assert b"raylet" not in hosts.commands(0)


def wait_for_nodes(rack: Rack, count: int) -> None:
    """The workers join some seconds after `ray up` returned."""
    program = (
        'import ray, time; ray.init("auto", log_to_driver=False)\n'
        "for _ in range(300):\n"
        '    alive = sum(node["Alive"] for node in ray.nodes())\n'
        f"    if alive == {count}: break\n"
        "    time.sleep(0.2)\n"
        'print("alive", alive)\n'
    )
    told = rack.on_head(f"python -c {shlex.quote(program)}").stdout
    assert f"alive {count}" in told, told
