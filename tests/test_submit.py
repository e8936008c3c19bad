"""A sweep as a Ray job: what is refused here, what the log carries, and the whole way for real."""

import io
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aiohttp import ClientError
from one_head import ROOT, Head, ray_head
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.remote.fetch import BrokenParcel, Parcel, pack
from raylab.remote.reach import out_of_reach
from raylab.remote.submit import (
    Job,
    Skipping,
    exit_code,
    fetch,
    head_results,
    refuse_other_results,
    submit_sweep,
    token_header,
)
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, Status, record_from
from raylab.storage import Folder


def packed(folder: Path) -> str:
    out = io.StringIO()
    pack(str(folder), out)
    return out.getvalue()


def record_of(seed: int, status: Status) -> Record:
    config, started_at = TrialConfig(seed=seed), f"2026-01-01T00:00:{seed:02d}"
    return record_from(
        config, "data", "split", [], status, num_val=100, started_at=started_at, git_sha=None
    )


def ended(status: JobStatus, code: int | None) -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id="raysubmit_x",
        entrypoint="",
        status=status,
        message="no environment",
        driver_exit_code=code,
    )


def test_images_or_weights_of_this_machine_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for data in (str(tmp_path), f"file://{tmp_path}"):
        (problem,) = out_of_reach(SweepConfig(name="x", data=data))
        assert problem.text.endswith("and give --data s3://…")
    weights = SweepConfig(name="x", data="toy", axes={"pretrained": (True, "/w.pt")})
    (problem,) = out_of_reach(weights)
    assert problem.text.startswith("the weights file /w.pt is on this machine")
    packaged = SweepConfig(name="x", data="toy", trial={"pretrained": "package:some_weights"})
    assert not list(out_of_reach(packaged))  # each machine has its own installed
    for data in ("toy", "toy:num=70", "s3://bucket/faces"):
        assert not list(out_of_reach(SweepConfig(name="x", data=data, trial={"pretrained": True})))


def test_nothing_is_asked_of_the_cluster_before_the_request_is_sound(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        submit_sweep(SweepConfig(name="x", data=str(tmp_path)), "r", "http://127.0.0.1:1")


def test_a_cluster_that_is_not_there_is_told_in_one_text() -> None:
    with pytest.raises(CannotFinish, match="could not be reached"):
        submit_sweep(SweepConfig(name="x", data="toy"), "s3://b/r", "http://127.0.0.1:1")


def test_results_that_come_from_elsewhere_are_never_replaced(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    refuse_other_results(results, "~/there")  # nothing is there yet
    results.flush()
    with pytest.raises(Refused, match="not from this cluster"):
        refuse_other_results(results, "~/there")
    results.write_fetched({"from": "~/there"})
    refuse_other_results(results, "~/there")


def test_the_same_local_folder_is_the_same_folder_on_the_head() -> None:
    assert head_results("aug", "/a") == head_results("aug", "/a") != head_results("aug", "/b")


class Cluster:
    """The jobs of a cluster that starts them and says no more."""

    def __init__(self) -> None:
        self.jobs: list[JobDetails] = []

    def __call__(self, address: str, headers: dict[str, str]) -> "Cluster":
        return self

    def list_jobs(self) -> list[JobDetails]:
        return self.jobs

    def submit_job(
        self, entrypoint: str, metadata: dict[str, str] | None = None, **given: object
    ) -> str:
        job = JobDetails(
            type=JobType.SUBMISSION,
            submission_id=f"job{len(self.jobs)}",
            entrypoint=entrypoint,
            status=JobStatus.RUNNING,
            metadata=metadata,
        )
        self.jobs.append(job)
        return str(job.submission_id)


def test_a_job_is_found_again_from_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(job: Job, hear: object) -> None:
        raise KeyboardInterrupt

    cluster, told = Cluster(), list[str]()
    monkeypatch.setattr("raylab.remote.submit.JobSubmissionClient", cluster)
    monkeypatch.setattr(Job, "follow", follow)
    sweep, place = SweepConfig(name="x", data="toy"), str(tmp_path / "results")
    for host in ("laptop.home", "laptop.office"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with pytest.raises(KeyboardInterrupt):
            submit_sweep(sweep, place, "http://head:8265", tell=told.append)
    assert len(cluster.jobs) == 1
    assert "job job0 runs already; following it\n" in told
    with pytest.raises(KeyboardInterrupt):
        submit_sweep(sweep, place, "http://head:8265", ["--fresh", "--quiet"], tell=told.append)
    assert "job job0 runs already; following it, which began with no options\n" in told


def test_a_parcel_arrives_as_it_was_sent_however_the_log_is_cut(tmp_path: Path) -> None:
    sent = Folder(tmp_path / "sent")
    sent.write_bytes("leaderboard.parquet", os.urandom(50_000))
    sent.write_bytes("records/기쁨.json", b"{}")
    sent.write_bytes("scratch/tune/big", b"left behind")
    text = "a warning of Ray\n" + packed(tmp_path / "sent") + "and another one\n"
    parcel = Parcel()
    for start in range(0, len(text), 7001):
        parcel.hear(text[start : start + 7001])
    got = Folder(tmp_path / "got")
    assert parcel.unpack(got) == {"leaderboard.parquet", "records/기쁨.json"}
    assert got.names() == ["leaderboard.parquet", "records/기쁨.json"]
    assert got.read_bytes("leaderboard.parquet") == sent.read_bytes("leaderboard.parquet")


class Broken:
    """A client whose every connection gives the log's next lines, if any, and breaks off."""

    def __init__(self, *num_lines: int) -> None:
        self.num_lines = iter(num_lines)

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for line in range(next(self.num_lines)):
            yield f"{line}\n"
        raise ClientError("broke off")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, in no time."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


def test_a_log_is_followed_as_long_as_it_goes_on(pauses: list[float]) -> None:
    heard: list[str] = []
    client: Any = Broken(*range(1, 31), *[30] * 7)  # a line an hour, then none
    with pytest.raises(ClientError):
        Job(client, "x").follow(heard.append)
    assert heard == [f"{line}\n" for line in range(30)]
    assert pauses[30:] == [2, 4, 8, 16, 32, 60]


def test_a_cluster_that_answers_is_never_given_up(pauses: list[float]) -> None:
    class Quiet(Broken):
        """It says nothing, and its connection ends now and then."""

        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            for _ in range(next(self.num_lines)):
                yield ""

        def get_job_info(self, job_id: str) -> JobDetails:
            return ended(JobStatus.RUNNING if len(pauses) < 20 else JobStatus.SUCCEEDED, 0)

    client: Any = Quiet(*[0] * 21)
    assert Job(client, "x").follow(print).status == JobStatus.SUCCEEDED


def test_what_went_into_a_segment_since_does_not_stay_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylab.results.journal.SEGMENT_RECORDS", 5)
    head, copy = ResultsDirectory(tmp_path / "head"), ResultsDirectory(tmp_path / "copy")

    def follow(job: Job, hear: Callable[[str], object]) -> None:
        hear(packed(tmp_path / "head"))

    monkeypatch.setattr(Job, "follow", follow)
    for seed in range(3):
        head.add(record_of(seed, "failed"))
    cluster: Any = Cluster()
    fetch(cluster, "~/there", copy)
    extended = record_of(9, "complete")
    copy.add(extended)  # of this machine's own
    for seed in range(6):
        head.add(record_of(seed, "complete"))
    fetch(cluster, "~/there", copy)
    kept = {record.trial_id: record for record in ResultsDirectory(copy.folder).each_record()}
    assert kept.pop(extended.trial_id) == extended
    assert kept == {record.trial_id: record for record in head.each_record()}
    assert len(copy.folder.names("records/")) == 3


def test_a_damaged_parcel_writes_nothing(tmp_path: Path) -> None:
    Folder(tmp_path / "sent").write_bytes("a", os.urandom(50_000))
    lines = packed(tmp_path / "sent").splitlines(keepends=True)
    for broken in (lines[:-1], [*lines[:1], *lines[2:]], []):
        parcel = Parcel()
        parcel.hear("".join(broken))
        with pytest.raises(BrokenParcel):
            parcel.unpack(Folder(tmp_path / "got"))
    assert not (tmp_path / "got").exists()


def test_a_log_that_is_read_again_from_its_beginning_is_heard_once() -> None:
    heard: list[str] = []
    for text in ("one\ntw", "one\ntwo\nthree"):
        skipping = Skipping(heard.append, len("".join(heard)))
        for letter in text:
            skipping(letter)
    assert "".join(heard) == "one\ntwo\nthree"


def test_the_token_is_found_where_ray_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert token_header() == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the file\n")
    assert token_header() == {"Authorization": "Bearer of the file"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the variable")
    assert token_header() == {"Authorization": "Bearer of the variable"}


def test_the_exit_code_of_the_job_is_that_of_the_command() -> None:
    assert exit_code(ended(JobStatus.SUCCEEDED, 0)) == 0
    assert exit_code(ended(JobStatus.FAILED, 2)) == 2
    assert exit_code(ended(JobStatus.STOPPED, None)) == 130
    with pytest.raises(CannotFinish, match="no environment"):
        exit_code(ended(JobStatus.FAILED, None))


# From here on a real head in processes of its own.

SMALL = [
    *("--set", "data=toy:num=140", "--set", "trial.epochs=1", "--set", "trial.image_size=16"),
    *("--set", "axes={lr: [1.0e-2, 1.0e-3]}", "--set", "trial.model=cnn"),
]


def sweep_on(head: Head, *more: str) -> list[str]:
    grid = str(ROOT / "grids" / "quickstart.yaml")
    return head.raylab("sweep", grid, "--address", head.url, *SMALL, *more)


def run_on(head: Head, place: Path, *more: str, **env: str) -> "subprocess.CompletedProcess[str]":
    environment = {**head.env, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        sweep_on(head, *more),
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("head")) as running:
        yield running


@pytest.mark.slow
def test_a_submitted_sweep_comes_back_with_its_log_its_results_and_its_code(
    head: Head, tmp_path: Path
) -> None:
    done = run_on(head, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stderr  # a line of the job's own log
    assert "val_accuracy" in done.stdout
    board = pd.read_parquet(tmp_path / "results" / "quickstart" / "leaderboard.parquet")
    assert list(board.status) == ["complete"] * 2
    results = ResultsDirectory(tmp_path / "results" / "quickstart")
    assert results.predictions(board.trial_id[0]).num_rows == board.num_val[0]
    assert results.checkpoint_ids() == set(board.trial_id)


@pytest.mark.slow
def test_a_submission_without_the_token_or_with_a_wrong_one_is_refused(
    head: Head, tmp_path: Path
) -> None:
    for token in ("", "0" * 64):
        done = run_on(head, tmp_path, RAY_AUTH_TOKEN=token, HOME=str(tmp_path))
        assert done.returncode == 1
        assert "wants its token" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def wait_for_metric(head: Head, pattern: str) -> None:
    """Until a line of what Prometheus reads on the head's node looks like that."""
    ends_at = time.monotonic() + 200  # trials begin a minute after a job, on slow cores
    while time.monotonic() < ends_at:
        with urllib.request.urlopen(head.metrics, timeout=10) as reply:
            text = str(reply.read(), "utf-8")
        if re.search(pattern, text):
            return
        time.sleep(0.5)
    raise AssertionError(f"{pattern} is not among\n{text[-3000:]}")


@pytest.mark.slow
def test_a_running_job_is_measured_and_ctrl_c_leaves_it_running(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = subprocess.Popen(
        sweep_on(head, "--set", "trial.epochs=2000"),
        cwd=tmp_path,
        env={**head.env, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stderr is not None
    heard = following.stderr.readline()
    job_id = heard.split()[1]
    for pattern in (
        r'ray_raylab_val_accuracy\{[^}]*trial="lr=0\.01"',
        r'ray_raylab_trials\{[^}]*state="running"[^}]*\} 2',
        r"ray_raylab_train_images_per_s\{",
    ):
        wait_for_metric(head, pattern)
    following.send_signal(signal.SIGINT)
    told = following.stderr.read()
    assert following.wait(30) == 130
    assert f"ray job stop --address {head.url} {job_id}" in told
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.env["RAY_AUTH_TOKEN"])
    client = JobSubmissionClient(head.url, headers=token_header())
    assert not client.get_job_status(job_id).is_terminal()
    client.stop_job(job_id)
