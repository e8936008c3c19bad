"""A Ray head of its own, in processes beside the tests, with a dashboard and a token."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Head:
    """Where it is, and what a process needs to talk to it."""

    url: str
    gcs: str
    metrics: str
    env: dict[str, str]

    def get(self, path: str) -> Any:
        """What its dashboard answers, as values."""
        request = urllib.request.Request(f"{self.url}{path}")
        request.add_header("Authorization", f"Bearer {self.env['RAY_AUTH_TOKEN']}")
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.load(reply)

    def num_nodes(self) -> int:
        """Nodes that are alive."""
        nodes = self.get("/api/v0/nodes?detail=0")["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def raylab(self, *arguments: str) -> list[str]:
        """The command line of this checkout's raylab."""
        return [sys.executable, "-m", "raylab", *arguments]


@contextmanager
def ray_head(
    place: Path, num_cpus: int = 2, *more: str, port: int | None = None, **env: str
) -> Iterator[Head]:
    """A head with home and session below `place`; all its processes have ended afterwards."""
    pytest.importorskip("opencensus", reason="ray[default] is not installed: no dashboard")
    # Ray's sockets have to fit into 107 characters.
    session = Path("/tmp") / f"rl{secrets.token_hex(4)}"
    (place / "home").mkdir(parents=True)
    token = secrets.token_hex(32)
    gcs, dashboard, metrics = port or free_port(), free_port(), free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYLAB_"))},
        **{"HOME": str(place / "home"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",  # raylab comes with the job
        "RAY_metrics_report_interval_ms": "1000",
        **env,
    }
    with (place / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
                *(f"--num-cpus={num_cpus}", "--num-gpus=0", f"--temp-dir={session}"),
                *("--disable-usage-stats", f"--object-store-memory={200 * 2**20}"),
                *("--node-ip-address=127.0.0.1", f"--metrics-export-port={metrics}"),
                *(f"--dashboard-agent-listen-port={free_port()}", *more),
            ],
            env=environment,
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{dashboard}"
        wait_for(url, token, process, place / "head.log")
        head = Head(url, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{metrics}/metrics", environment)
        while not head.num_nodes():  # its own node joins after the API answers
            time.sleep(0.2)
        yield head
    finally:
        end(process, session)


def end(process: "subprocess.Popen[bytes]", session: Path) -> None:
    """The head and all that names its session; workers follow their raylet."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(session).encode() in (place / "cmdline").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)
    process.kill()
    process.wait()
    shutil.rmtree(session, ignore_errors=True)


def wait_for(url: str, token: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the job API answers."""
    ends_at = time.monotonic() + START_TIMEOUT_S
    request = urllib.request.Request(f"{url}/api/jobs/")
    request.add_header("Authorization", f"Bearer {token}")
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).read()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > ends_at:
                text = re.sub(token, "…", log.read_text())
                raise RuntimeError(f"no head at {url}: {error}\n{text}") from error
            time.sleep(0.3)
