"""AWS as moto mocks it, in a process beside the tests; and a way to it that fails now and then."""

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from one_head import free_port

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OF_ONE_HOP = ("connection", "transfer-encoding")


@contextmanager
def moto_server() -> Iterator[int]:
    """Its port on this machine."""
    pytest.importorskip("moto")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(150):
            try:
                request(port, "GET", "/moto-api/data.json")
                break
            except ConnectionError:
                time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait()


def request(port: int, method: str, path: str) -> int:
    """The status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    status = connection.getresponse().status
    connection.close()
    return status


@dataclass
class Front:
    """Hands requests on to the server behind it; while it `fails`, answers every third with 503."""

    behind: int
    fails: bool = False
    num_failed: int = 0
    num_calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_failing(self) -> bool:
        with self.lock:
            self.num_calls += 1
            is_failing = self.fails and self.num_calls % 3 == 0
            self.num_failed += is_failing
            return is_failing


@contextmanager
def in_front_of(front: Front) -> Iterator[int]:
    """The port at which it listens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self.body()
            if front.is_failing():
                self.answer(503, [], b"")
                return
            server = http.client.HTTPConnection("127.0.0.1", front.behind, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_ONE_HOP}
            server.request(self.command, self.path, body, headers)
            reply = server.getresponse()
            self.answer(reply.status, reply.getheaders(), reply.read())
            server.close()

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # what trails behind the last chunk
            return b"".join(chunks)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            names = {name.lower() for name, _ in headers}
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in OF_ONE_HOP:
                    self.send_header(name, value)
            if "content-length" not in names:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = hand_on

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
