"""A webhook hears how a sweep ended, and what it does changes nothing."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raylab.cli import app
from raylab.commands.exit_codes import exit_codes
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.events.notify import Webhook, notified
from raylab.results.record import record_from


class Hook(HTTPServer):
    """Remembers what it was sent, and answers with `code`, which may point `elsewhere`."""

    code = 200
    elsewhere = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/T0KEN"


class Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.code)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.heard.append((dict(self.headers), {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr("raylab.storage.PAUSES_S", (0.0,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def record(accuracy: float | None, lr: float) -> Any:
    row = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
    if accuracy is None:
        return record_from(TrialConfig(lr=lr), "d", "s", [], "failed", error_kind="diverged")
    return record_from(TrialConfig(lr=lr), "d", "s", [row], "complete", num_val=50)


def test_the_end_is_told_with_counts_and_the_best(hook: Hook) -> None:
    records = [record(0.5, 0.1), record(0.75, 0.2), record(None, 0.3)]
    with notified(hook.url, pytest.fail) as news:
        news.concerns("faces", "results/faces")
        news.came_out("val_accuracy", records, interrupted=False, advice=None)
    ((headers, body),) = hook.heard
    assert headers["Content-Type"] == "application/json"
    assert body["text"].startswith(
        "raylab faces ended: 2 complete, 1 failed, best val_accuracy 0.7500"
    )
    assert body["best"] == {"trial_id": records[1].trial_id, "val_accuracy": 0.75}
    assert (body["state"], body["results"]) == ("ended", "results/faces")


def test_a_sweep_that_keeps_failing_says_so(hook: Hook) -> None:
    with notified(hook.url, pytest.fail) as news:
        news.came_out("val_accuracy", [record(None, 0.1)], False, "the first 3 trials failed")
    assert hook.heard[0][1]["state"] == "keeps failing"
    assert hook.heard[0][1]["advice"] == "the first 3 trials failed"


def test_a_sweep_whose_budget_is_spent_is_not_said_to_have_ended(hook: Hook) -> None:
    with notified(hook.url, pytest.fail) as news:
        news.came_out("val_accuracy", [record(0.5, 0.1), record(None, 0.2)], False, "it is spent")
    assert hook.heard[0][1]["state"] == "stopped early"


def test_errors_are_told_and_raised(hook: Hook) -> None:
    with pytest.raises(CannotFinish), notified(hook.url, pytest.fail):
        raise CannotFinish("Ray gave up\nmore")
    assert hook.heard[0][1]["text"] == "raylab sweep cannot go on: Ray gave up"
    assert hook.heard[0][1]["error"] == "Ray gave up\nmore"


def test_a_refused_sweep_is_told_by_the_command(hook: Hook, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["sweep", str(tmp_path / "none.yaml"), "--notify", hook.url])
    assert answer.exit_code == 2
    assert hook.heard[0][1]["state"] == "refused"


def test_userinfo_goes_into_a_header_and_is_never_told(hook: Hook) -> None:
    told: list[str] = []
    hook.code = 500
    address = hook.url.replace("http://", "http://me:s3cret@")
    with notified(address, told.append) as news:
        news.ended("ended")
    headers, _ = hook.heard[0]
    assert headers["Authorization"] == "Basic bWU6czNjcmV0"
    assert len(hook.heard) == 2  # it was tried again
    assert told == ["http://127.0.0.1 did not take the news: 500 Internal Server Error"]
    assert "s3cret" not in repr(Webhook(address))


def test_the_password_of_a_storage_is_told_to_no_webhook(hook: Hook, capsys: Any) -> None:
    place = "s3://KEY:S3CRET@bucket/faces?region=eu"

    def sweep() -> None:
        with exit_codes(), notified(hook.url, pytest.fail) as news:
            news.concerns("faces", place)
            raise CannotFinish(f"{place} cannot be written")

    with pytest.raises(SystemExit):
        sweep()
    _, body = hook.heard[0]
    assert body["results"] == "s3://bucket/faces?region=eu"
    assert body["error"] == "s3://bucket/faces?region=eu cannot be written"
    assert "S3CRET" not in json.dumps(body) + capsys.readouterr().err


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_webhook_that_points_elsewhere_is_told_of_and_not_followed(hook: Hook, code: int) -> None:
    told: list[str] = []
    hook.code, hook.elsewhere = code, f"http://127.0.0.1:{hook.server_port}/elsewhere"
    with notified(hook.url.replace("http://", "http://me:s3cret@"), told.append) as news:
        news.ended("ended")
    assert told == [
        f"http://127.0.0.1 did not take the news: {code} it points to another address; "
        "give that one"
    ]
    assert all(body["state"] == "ended" for _, body in hook.heard)  # each a POST to the first


def test_a_webhook_that_is_not_there_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raylab.storage.PAUSES_S", (0.0,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    told: list[str] = []
    with notified("http://127.0.0.1:9/T0KEN", told.append) as news:
        news.ended("ended")
    assert len(told) == 1
    assert "T0KEN" not in told[0]


def test_a_webhook_that_speaks_no_http_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=babble, args=(server,))
        thread.start()
        with notified(f"http://127.0.0.1:{server.getsockname()[1]}/T0KEN", told.append) as news:
            news.ended("ended")
        thread.join()
    with notified("http://127.0.0.1/T0 KEN", told.append) as news:
        news.ended("ended")
    assert told == [
        "http://127.0.0.1 did not take the news: BadStatusLine",
        "http://127.0.0.1 did not take the news: InvalidURL",
    ]


def babble(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"220 ready\r\n\r\n")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "hooks.example/x", "http://u:pw@h:port/", ""]
)
def test_an_address_that_is_none_is_refused_without_being_told(url: str) -> None:
    with (
        pytest.raises(Refused, match="is no address of a webhook") as refused,
        notified(url, print),
    ):
        pytest.fail("it was begun")
    assert not url or url not in str(refused.value)
