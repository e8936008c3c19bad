"""Images and results behind s3:// (moto's server), three nodes, groups of two workers, and a
storage that fails every third call.
"""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from one_head import ROOT, free_port

from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.storage import Folder, _open

GRID = """
name: s3
data: s3://faces/all
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2, batch_size: 32, amp: none}
axes: {lr: [1.0e-2, 1.0e-3]}
resources: {workers: 2}
"""


@dataclass
class Faults:
    """Answers every third request with 503 while it is switched on; hands the others on."""

    port: int
    is_on: bool = False
    num_calls: int = 0
    num_failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fails(self) -> bool:
        with self.lock:
            self.num_calls += 1
            failing = self.is_on and self.num_calls % 3 == 0
            self.num_failed += failing
            return failing


def proxy(faults: Faults) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if faults.fails():
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection("127.0.0.1", faults.port, timeout=30)
            upstream.request(self.command, self.path, body, dict(self.headers))
            reply = upstream.getresponse()
            content = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            if reply.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            upstream.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    pytest.importorskip("moto")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    faults = Faults(port)
    front = proxy(faults)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{front.server_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        for bucket in ("faces", "results"):
            make_bucket(port, bucket)
        _open.cache_clear()
        yield faults
    finally:
        front.shutdown()
        front.server_close()
        server.terminate()
        server.wait()
        _open.cache_clear()


def make_bucket(port: int, name: str) -> None:
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("PUT", f"/{name}")
            assert connection.getresponse().status == 200
            return
        except ConnectionError:
            time.sleep(0.2)
    raise RuntimeError("moto's server does not answer")


@pytest.mark.slow
def test_three_nodes_with_groups_of_two_on_a_storage_that_fails_every_third_call(
    storage: Faults, tmp_path: Path
) -> None:
    write_folder(tmp_path / "faces", num=70, wrong=0.0, seed=0)
    images = Folder("s3://faces/all")
    for path in sorted((tmp_path / "faces").rglob("*.png")):
        images.write_bytes(str(path.relative_to(tmp_path / "faces")), path.read_bytes())
    (tmp_path / "grid.yaml").write_text(GRID)
    storage.is_on = True
    command = [sys.executable, str(ROOT / "tests" / "nodes.py"), "3", "sweep"]
    done = subprocess.run(
        [*command, str(tmp_path / "grid.yaml"), "--results", "s3://results/run"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    storage.is_on = False
    assert done.returncode == 0, done.stderr
    assert storage.num_failed > 20
    results = ResultsDirectory("s3://results/run")
    board = results.leaderboard().to_pylist()
    assert [(row["status"], row["num_workers"]) for row in board] == [("complete", 2)] * 2
    for row in board:
        assert results.predictions(row["trial_id"]).num_rows == row["num_val"]
    assert not list(tmp_path.glob("results*"))  # nothing was kept here
