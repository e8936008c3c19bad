"""A Ray head of its own, in processes beside the tests, with a dashboard and a token."""

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
    env: dict[str, str]


@contextmanager
def ray_head(place: Path, num_cpus: int = 2, **env: str) -> Iterator[Head]:
    """A head with home and session below `place`; all its processes have ended afterwards."""
    pytest.importorskip("opencensus", reason="ray[default] is not installed: no dashboard")
    # Ray's sockets have to fit into 107 characters.
    session = Path("/tmp") / f"rl{secrets.token_hex(4)}"
    home = place / "home"
    (home / ".ray").mkdir(parents=True)
    token = secrets.token_hex(32)
    (home / ".ray" / "auth_token").write_text(token)
    gcs, dashboard = free_port(), free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYLAB_"))},
        **{"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",  # raylab comes with the job
        **env,
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            *(f"--num-cpus={num_cpus}", "--num-gpus=0", f"--temp-dir={session}"),
            *("--disable-usage-stats", f"--object-store-memory={200 * 2**20}"),
            *("--node-ip-address=127.0.0.1", "--include-dashboard=true"),
            *(f"--dashboard-agent-listen-port={free_port()}",),
        ],
        env=environment,
        cwd=place,
        stdout=(place / "head.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{dashboard}"
        wait_for(url, token, process, place / "head.log")
        yield Head(url, f"127.0.0.1:{gcs}", environment)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
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
