"""A running sweep seen from elsewhere: its snapshot as text of any width, in JSON, in a browser."""

import http.client
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from raylab.cli import app
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.events.broadcast import Broadcast
from raylab.results import watching
from raylab.results.directory import LOCK, ResultsDirectory
from raylab.results.live import MAX_CURVE, Leader, RunningTrial, Snapshot, thinned
from raylab.results.live_server import live_server
from raylab.results.live_text import LiveTable, best_line, sparkline, summary_line
from raylab.results.record import record_from
from raylab.results.watching import snapshots
from raylab.sweep.runner import Options, run_sweep

HOSTILE = "<script>alert(1)</script> [bold]lr[/bold]=0.1"
NOW = Snapshot(
    sweep="faces",
    metric="val_accuracy",
    curve_metric="val_accuracy",
    state="running",
    total=12,
    slots=4,
    counts={"complete": 3, "failed": 2},
    failures={"diverged": 2},
    num_running=2,
    running=(
        RunningTrial("aaa", HOSTILE, 3, 5, (0.2, 0.5, 0.6), 1.25, 480.0),
        RunningTrial("bbb", "lr=0.01", 0, 5),
    ),
    best=Leader("ccc", "lr=0.001", 0.61, 0.55, 0.66, 2),
    left_s={"low": 60.0, "mid": 75.0, "high": 90.0},
    elapsed_s=130.0,
    images_per_s=480.0,
    written_at=time.time(),
)


def drawn(snapshot: Snapshot, width: int = 100, height: int = 25) -> list[str]:
    sink = io.StringIO()
    console = Console(file=sink, width=width, height=height, force_terminal=True, no_color=True)
    console.print(LiveTable(snapshot))
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def test_the_table_tells_slots_best_failures_time_left_and_curves() -> None:
    told = "\n".join(drawn(NOW))
    assert "5/12 trials · 1:15 (1:00 to 1:30) left · 2 running · 3 complete · 2 failed" in told
    assert "480 images/s" in told
    assert "2 of 4 slots busy, 2:10 so far" in told
    assert "best val_accuracy 0.6100 [0.5500, 0.6600], 2 more in this interval  lr=0.001" in told
    assert "failed: 2 x diverged" in told
    assert "▁▆█" in told
    assert HOSTILE[:20] in told  # no markup is read in names


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_epochs_are_always_told(width: int) -> None:
    lines = drawn(NOW, width)
    assert max(len(plain(line)) for line in lines) <= width
    assert any("3/5" in line for line in lines)


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_a_low_terminal_shows_the_first_trials_and_counts_the_others() -> None:
    many = replace(NOW, num_running=30, running=tuple(NOW.running[1:]) * 30)
    lines = drawn(many, height=12)
    assert len(lines) <= 12
    assert "and 26 more" in "\n".join(lines)


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=100)
    console.print(LiveTable(NOW))
    assert "\x1b[3" not in sink.getvalue()


def test_a_curve_is_drawn_between_the_extremes_of_all() -> None:
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0, 10, "abc") == "abc"
    assert sparkline([0.5, 0.5], 0.5, 0.5, 10, "abc") == "aa"
    assert sparkline([0.0, 0.0, 1.0, 0.5], 0.0, 1.0, 2, "abc") == "cb"


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    values = [float(i) for i in range(1000)]
    assert len(thinned(values)) == MAX_CURVE
    assert thinned(values)[-1] == 999


def test_a_snapshot_is_the_same_after_json() -> None:
    text = json.dumps(NOW.to_json())
    assert Snapshot.from_json({**json.loads(text), "of_tomorrow": 1}).to_json() == NOW.to_json()
    with pytest.raises(ValueError, match="no snapshot"):
        Snapshot.from_json({"sweep": "x"})
    with pytest.raises(ValueError, match="no snapshot"):
        Snapshot.from_json([1])


def test_preparing_is_told_before_there_are_trials() -> None:
    early = replace(NOW, preparing={"what": "48 px RGB", "done": 50, "total": 100})
    assert summary_line(early) == "preparing 48 px RGB: 50/100 images"
    assert best_line(replace(NOW, best=None)) == "no finished trial yet"


@pytest.fixture
def results(tmp_path: Path) -> ResultsDirectory:
    return ResultsDirectory(tmp_path / "results")


def test_a_broadcast_sweep_can_be_watched_to_its_end(results: ResultsDirectory) -> None:
    broadcast = Broadcast(results, "faces", "val_accuracy", ["lr"])
    broadcast.pause_s = 0.01
    config = TrialConfig(lr=0.1, epochs=2)
    row = {"train_loss": 1.5, "val_accuracy": 0.5, "train_images_per_s": 100.0}
    broadcast.planned(1, [], 2, 2)
    broadcast.started("aaa", config)
    broadcast.epoch("aaa", {"epoch": 1, **row})
    seen = []
    for snapshot in snapshots(results, sleep=lambda _: time.sleep(0.01)):
        seen.append(snapshot)
        if snapshot.running and snapshot.running[0].epoch == 1:
            record = record_from(config, "data", "split", [{"epoch": 1, **row}], "complete")
            broadcast.tally.running[record.trial_id] = broadcast.tally.running.pop("aaa")
            broadcast.ended(record)
            broadcast.close()
    assert seen[-1].state == "ended"
    assert seen[-1].counts == {"complete": 1}
    assert seen[-1].best is not None
    assert any(s.running and s.running[0].curve == (0.5,) for s in seen)


def test_a_sweep_leaves_its_last_snapshot(finished: Path) -> None:
    last = ResultsDirectory(finished / "results").live()
    assert last is not None
    assert (last.sweep, last.state, last.counts) == ("finished", "ended", {"complete": 4})
    assert last.best is not None


@pytest.mark.slow
def test_the_last_snapshot_is_written_before_another_sweep_may_begin(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_locked = ResultsDirectory.write_live, {}

    def watched(results: ResultsDirectory, snapshot: Snapshot) -> None:
        is_locked[snapshot.state] = results.folder.exists(LOCK)
        write(results, snapshot)

    monkeypatch.setattr(ResultsDirectory, "write_live", watched)
    monkeypatch.setenv("RAYLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "grid.yaml").write_text(
        "data: toy:num=100\ntrial: {model: cnn, image_size: 16, epochs: 1, amp: none}\n"
    )
    run_sweep(read_grid(tmp_path / "grid.yaml"), Options(str(tmp_path / "results"), quiet=True))
    assert is_locked["ended"]
    assert not ResultsDirectory(tmp_path / "results").folder.exists(LOCK)


def test_a_storage_that_fails_does_not_disturb_the_sweep(results: ResultsDirectory) -> None:
    results.folder.write_bytes("live.json/blocked", b"")  # a folder where the file would be
    broadcast = Broadcast(results, "faces", "val_accuracy", ["lr"])
    broadcast.note("still here")
    broadcast.close()
    assert results.folder.exists("live.json/blocked")


def test_watching_where_nothing_runs_is_refused_and_a_silent_sweep_is_given_up(
    results: ResultsDirectory,
) -> None:
    waited: list[float] = []
    with pytest.raises(Refused, match="no sweep was seen here"):
        next(snapshots(results, sleep=waited.append))
    assert 20 < sum(waited) < 60
    results.write_live(replace(NOW, written_at=time.time() - 3600))
    with pytest.raises(CannotFinish, match="stopped without a word"):
        list(snapshots(results, sleep=lambda _: None))


def test_the_end_of_an_earlier_run_is_not_that_of_the_next_one(results: ResultsDirectory) -> None:
    results.write_live(replace(NOW, state="ended"))
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 5:
            results.write_live(NOW)
        elif len(waited) == 8:
            results.write_live(replace(NOW, state="ended", counts={"complete": 4}))

    assert [each.state for each in snapshots(results, sleep)] == ["ended", "running", "ended"]
    assert len(waited) == 8  # that end was seen to come
    assert [each.state for each in snapshots(results, waited.append)] == ["ended"]
    assert 20 < sum(waited[8:]) < 60


def test_watch_prints_lines_without_a_terminal_and_json_once(
    results: ResultsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BEGIN_S", 0.0)
    results.write_live(replace(NOW, state="ended", running=(), num_running=0, left_s=None))
    told = CliRunner().invoke(app, ["watch", results.location])
    assert told.exit_code == 0
    assert "5/12 trials · 3 complete" in told.stdout
    assert "this sweep has ended, and is given 0 s to go on" in told.stderr
    assert "[0.5500, 0.6600]" in told.stdout
    found = json.loads(CliRunner().invoke(app, ["watch", results.location, "--json"]).stdout)
    assert found["best"]["trial_id"] == "ccc"


@pytest.fixture
def port(results: ResultsDirectory) -> Iterator[int]:
    """A server that shows NOW."""
    results.write_live(NOW)
    with live_server(results.live, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_browser_gets_a_page_without_data_and_the_data_as_json(port: int) -> None:
    status, headers, page = get(port, "/")
    assert status == 200
    assert b"innerHTML" not in page
    assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    status, headers, body = get(port, "/live.json")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body)["running"][0]["name"] == HOSTILE


@pytest.mark.slow
def test_the_page_shows_the_next_run_too(results: ResultsDirectory, port: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or pytest.skip("no chromium is installed on this machine")
    results.write_live(replace(NOW, state="ended"))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("ended: 5/12 trials").wait_for()
        results.write_live(NOW)
        page.get_by_text("2 of 4 slots busy").wait_for()
        browser.close()


def test_the_server_answers_this_machine_only_and_nothing_else(port: int) -> None:
    assert get(port, "/live.json", host="evil.example")[0] == 403
    assert get(port, "/../../etc/passwd")[0] == 404
