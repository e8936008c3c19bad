"""A sweep as a Ray job: sent to a cluster over http, its log followed, its results fetched."""

import asyncio
import hashlib
import logging
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from raylab.config.identity import digest
from raylab.config.sweep import SweepConfig
from raylab.errors import CannotFinish, Problem, Refused
from raylab.remote.fetch import BrokenParcel, Parcel
from raylab.remote.reach import out_of_reach
from raylab.results.directory import ResultsDirectory
from raylab.sweep.cluster import with_raylab

GRID = "grid.yaml"
# What a cluster has of a caller's local results; `~` is the home of the head's user.
HEAD_RESULTS = "~/raylab-results"
# Ray's own account of the conversation.
RAY_LOGGERS = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
# How long a cluster that does not answer is left alone before it is asked again.
PAUSES_S = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


def submit_sweep(
    sweep: SweepConfig,
    location: str,
    address: str,
    flags: Sequence[str] = (),
    tell: Callable[[str], object] = sys.stderr.write,
) -> int:
    """Run the sweep as a job of the cluster at `address` (http://host:8265); its exit code.

    `flags` are given on to `raylab sweep`; `tell` hears its log. A local `location` gets a copy of
    what the job leaves on the head. A job that runs already for the same is followed, not doubled.
    Raises Refused where the cluster could not reach the images, CannotFinish where it is not
    reached itself, KeyboardInterrupt for Ctrl-C, which leaves the job running.
    """
    problems = list(out_of_reach(sweep))
    if problems:
        raise Refused(problems, "the request")
    results = ResultsDirectory(location)
    there = results.location
    if results.folder.is_local:
        there = results.submitted() or head_results(sweep.name, results.location)
        refuse_other_results(results, there)
    for name in RAY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with reaching(address):
        client = JobSubmissionClient(address, headers=token_header())
        job = Job.start_or_find(client, sweep, there, flags, tell)
    try:
        if results.folder.is_local:
            results.write_submitted(there)
        with reaching(address, job.id):
            ended = job.follow(tell)
    except KeyboardInterrupt:
        tell(still_running(address, job.id))
        raise
    code = exit_code(ended)
    if results.folder.is_local and code != Refused.exit_code:
        with reaching(address):
            num_files = fetch(job.client, there, results)
        if num_files:
            tell(f"{num_files} files fetched; they are on the head too, in {there}\n")
    return code


class Job:
    """A job of a cluster that can be followed."""

    def __init__(self, client: JobSubmissionClient, job_id: str) -> None:
        self.client, self.id = client, job_id

    @classmethod
    def start_or_find(
        cls,
        client: JobSubmissionClient,
        sweep: SweepConfig,
        there: str,
        flags: Sequence[str],
        tell: Callable[[str], object],
    ) -> "Job":
        """The job that writes the sweep's results `there`: the one that runs, or a new one."""
        grid = sweep.as_grid()
        given = " ".join(flags)
        metadata = {
            "raylab_results": there,
            "raylab_sweep": digest(grid),
            "raylab_options": given,
        }
        for job in client.list_jobs():
            known = job.metadata or {}
            if job.status.is_terminal() or known.get("raylab_results") != there:
                continue
            if known.get("raylab_sweep") != metadata["raylab_sweep"]:
                text = f"job {job.submission_id} is writing another sweep there; wait, or stop it"
                raise Refused([Problem(there, text)], "the results")
            began = known.get("raylab_options", given)
            with_others = "" if began == given else f", which began with {began or 'no options'}"
            tell(f"job {job.submission_id} runs already; following it{with_others}\n")
            return cls(client, str(job.submission_id))
        arguments = [GRID, "--address", "auto", "--results", there, *flags]
        with tempfile.TemporaryDirectory() as folder:
            text = yaml.safe_dump(grid, sort_keys=False, allow_unicode=True)
            Path(folder, GRID).write_text(text, encoding="utf-8")
            # The table is for stdout and is made here: only the story comes over the log.
            entrypoint = f"python -m raylab sweep {shlex.join(arguments)} >/dev/null"
            job_id = client.submit_job(
                entrypoint=entrypoint,
                runtime_env={"working_dir": folder, **with_raylab()},
                metadata=metadata,
            )
        tell(f"job {job_id} submitted; its results go to {there}\n")
        return cls(client, job_id)

    def follow(self, hear: Callable[[str], object]) -> JobDetails:
        """Its log, each character once, until it ended; how it ended. A connection that breaks is
        made anew; what it raises is raised where that failed for two minutes on end.
        """
        num_heard = num_failed = 0
        while True:
            for_once = Skipping(hear, num_heard)
            try:
                asyncio.run(listen(self.client, self.id, for_once))
                info = self.client.get_job_info(self.id)
                if info.status.is_terminal():
                    return info
                num_failed = 0
            except (ClientError, RuntimeError, OSError):
                num_failed = 0 if for_once.num_heard > num_heard else num_failed + 1
                if num_failed > len(PAUSES_S):
                    raise
            time.sleep(PAUSES_S[max(0, num_failed - 1)])
            num_heard = max(num_heard, for_once.num_heard)


class Skipping:
    """Hands a text on from its `skip`th character on."""

    def __init__(self, hear: Callable[[str], object], skip: int) -> None:
        self.hear, self.skip, self.num_heard = hear, skip, 0

    def __call__(self, text: str) -> None:
        new = text[max(0, self.skip - self.num_heard) :]
        self.num_heard += len(text)
        if new:
            self.hear(new)


async def listen(client: JobSubmissionClient, job_id: str, hear: Callable[[str], object]) -> None:
    """The job's log from its beginning until it ends or the connection does."""
    async for text in client.tail_job_logs(job_id):
        hear(text)


def fetch(client: JobSubmissionClient, there: str, results: ResultsDirectory) -> int:
    """Copy the head's results here, checkpoints too, by a second small job; how many files."""
    command = shlex.join(["python", "-m", "raylab.remote.fetch", there])
    job = Job(client, client.submit_job(entrypoint=command, runtime_env=with_raylab()))
    parcel = Parcel()
    try:
        job.follow(parcel.hear)
        names = parcel.unpack(results.folder)
    except BrokenParcel as error:
        raise CannotFinish(
            f"the results could not be fetched: {error}\n"
            f"They are on the head in {there}; the same command fetches them again."
        ) from error
    if names:
        results.forget_replaced(names)
        results.write_fetched({"from": there})
    return len(names)


def token_header() -> dict[str, str]:
    """The cluster's token, where this user has one.

    Ray's own client sends it only where RAY_AUTH_MODE=token stood before ray was imported.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token and Path(path).is_file():
        token = Path(path).read_text(encoding="utf-8")
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}


def refuse_other_results(results: ResultsDirectory, there: str) -> None:
    """Refused where the copy would replace results that came from elsewhere."""
    if not results.folder.exists("leaderboard.parquet") or results.fetched() == {"from": there}:
        return
    text = "holds results that are not from this cluster; give --results another folder"
    raise Refused([Problem(results.location, text)], "the results")


def head_results(name: str, location: str) -> str:
    """Where a job is to keep what a caller wants in a local folder: each caller has its own."""
    caller = hashlib.sha256(f"{socket.gethostname()}:{location}".encode()).hexdigest()
    return f"{HEAD_RESULTS}/{name}-{caller[:8]}"


def exit_code(ended: JobDetails) -> int:
    """That of `raylab sweep` in the job; 130 for one that was stopped."""
    if ended.status == JobStatus.STOPPED:
        return 130
    if ended.driver_exit_code is None:  # it never began, for want of its environment say
        raise CannotFinish(f"job {ended.submission_id}: {ended.message}")
    return ended.driver_exit_code


def still_running(address: str, job_id: str) -> str:
    """What to know after Ctrl-C."""
    return (
        f"\nNo longer following job {job_id}; it goes on. The same command follows it again,\n"
        f"ray job stop --address {address} {job_id}  ends it.\n"
    )


@contextmanager
def reaching(address: str, job_id: str | None = None) -> Iterator[None]:
    """What can go wrong on the way to a cluster, as one text that says what to do."""
    going_on = f"\nJob {job_id} goes on; the same command follows it again." if job_id else ""
    try:
        yield
    except AuthenticationError as error:
        raise CannotFinish(
            f"the cluster at {address} wants its token: bring its ~/.ray/auth_token here, "
            f"or set RAY_AUTH_TOKEN{going_on}"
        ) from error
    except (ClientError, OSError, RuntimeError) as error:
        raise CannotFinish(
            f"the cluster at {address} could not be reached: {error}\n"
            "Check the address and the forwarded port (ray dashboard cluster.yaml), and the token."
            f"{going_on}"
        ) from error
