"""A sweep's snapshot in a browser of this machine: one page, and the JSON that it asks for."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from raylab.results.live import Snapshot

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("live.html")
# The page holds its own script and style, and may ask this server only.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


def live_server(read: Callable[[], Snapshot | None], port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that is not running yet; port 0 = a free one. OSError if it is taken.

    `read` gives the snapshot at every request.
    """

    class Handler(BaseHTTPRequestHandler):
        """GET / and GET /live.json."""

        def do_GET(self) -> None:
            # A page of another site may have had its own name point to this machine.
            if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
                self.answer(403, "text/plain", b"ask for localhost")
            elif self.path == "/":
                self.answer(200, "text/html", PAGE.read_bytes())
            elif self.path == "/live.json":
                snapshot = read()
                value = None if snapshot is None else snapshot.to_json()
                text = json.dumps(value, ensure_ascii=False)
                self.answer(200, "application/json", text.encode())
            else:
                self.answer(404, "text/plain", b"nothing here")

        def answer(self, code: int, kind: str, body: bytes) -> None:
            """One whole response."""
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: stderr is for the sweep's story."""

    return ThreadingHTTPServer((HOST, port), Handler)
