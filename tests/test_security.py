"""Data is never code: planted pickles stay closed, paths stay inside, tokens are asked for."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import ray
import torch
from faults import ROOT, Run, write_grid
from one_head import ray_head

from raylab.errors import Refused
from raylab.images.manifests import find_in_manifest, leaves
from raylab.images.source import scan
from raylab.images.toy import write_folder


class Trap:
    """Unpickled, it writes the file that it was planted with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def test_a_training_state_that_is_a_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    torch.save({"epoch": Trap(tmp_path / "sprung")}, tmp_path / "saved.pt")
    for name in ("state.pt", "saved.pt"):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / name, weights_only=True)
    assert not (tmp_path / "sprung").exists()


def test_nothing_in_raylab_unpickles() -> None:
    files = list((ROOT / "raylab").rglob("*.py"))
    text = "\n".join(path.read_text() for path in files)
    assert "import pickle" not in text
    assert "get_pickled_error" not in text
    assert "Tuner.restore" not in text
    assert "yaml.load(" not in text
    assert text.count("torch.load(") == text.count("weights_only=True") > 0


@pytest.mark.slow
def test_pickles_planted_while_a_sweep_runs_are_not_executed(tmp_path: Path) -> None:
    """Over all that Tune and a trial keep in the results, while it is killed and taken up again."""
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3]}\n")
    often = {"RAYLAB_CHECKPOINT_EVERY_S": "0.2"}
    run = Run(tmp_path, "sweep", grid, "--results", "r", "--set", "trial.epochs=300", **often)
    kept, trap = tmp_path / "r", pickle.dumps(Trap(tmp_path / "sprung"))
    assert run.until(lambda: list((kept / "states").glob("*.pt"))), run.story
    os.kill(run.trial_pids()[0], 9)
    deadline, planted = time.monotonic() + 30, 0
    while time.monotonic() < deadline and run.process.poll() is None:
        for folder, _, names in os.walk(kept):  # passes over what Tune has just thrown away
            wanted = {name for name in names if name.endswith((".pkl", ".pt"))}
            for name in wanted:
                with contextlib.suppress(FileNotFoundError):
                    Path(folder, name).write_bytes(trap)
                    planted += name.endswith(".pt")
        time.sleep(0.02)
    run.wait()
    assert planted
    assert not (tmp_path / "sprung").exists()
    again = Run(tmp_path, "sweep", grid, "--results", "r", "--retry-failed", "--quiet")
    assert again.wait() == 0, again.story
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("path", "is_outside"),
    [
        ("a/b.png", False),
        ("s3://other/b.png", False),
        ("../b.png", True),
        ("a/../../b.png", True),
        ("/etc/passwd", True),
        ("file:///etc/passwd", True),
    ],
)
def test_a_manifest_elsewhere_names_no_file_of_this_machine(path: str, is_outside: bool) -> None:
    assert leaves(path) == is_outside


def test_such_a_manifest_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"path,label\n/etc/passwd,happy\n../x.png,sad\nfine.png,sad\n"
    monkeypatch.setattr("raylab.images.manifests.read_content", lambda location: content)
    with pytest.raises(Refused) as refused:
        find_in_manifest("s3://bucket/faces.csv")
    places = [problem.place for problem in refused.value.problems]
    assert places == ["s3://bucket/faces.csv:2", "s3://bucket/faces.csv:3"]


def test_a_manifest_of_this_machine_may_go_up_but_text_never_becomes_an_image(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path / "faces", num=70, wrong=0.0, seed=0)
    images = sorted((tmp_path / "faces").rglob("*.png"))
    rows = [
        f"../faces/{path.relative_to(tmp_path / 'faces')},{path.parent.name}" for path in images
    ]
    rows += ["../../../../../../../../etc/passwd,happy", "/dev/zero,happy", "/dev/stdin,happy"]
    (tmp_path / "lists").mkdir()
    manifest = tmp_path / "lists" / "faces.csv"
    manifest.write_text("\n".join(["path,label", *rows]))
    table = scan(str(manifest)).table.to_pandas().set_index("path")
    assert table["trouble"].notna().sum() == 2
    assert "no regular file" in table.loc["/dev/zero", "trouble"]
    assert table["pixels"].isna().all()  # the content stays in its file


STRANGER = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except BaseException as error:
    print("refused", type(error).__name__)
else:
    print("joined")
"""


@pytest.mark.slow
def test_a_local_ray_lets_nobody_in_without_its_token(ray_local: None, tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    answers = {}
    for name, settings in {
        "with the token": {},
        "with another token": {"RAY_AUTH_TOKEN": "0" * 64},
        "without": {"RAY_AUTH_MODE": "disabled"},
    }.items():
        result = subprocess.run(
            [sys.executable, "-c", STRANGER, address],
            env={**os.environ, **settings, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        answers[name] = result.stdout.partition(" ")[0].strip()
    assert answers == {
        "with the token": "joined",
        "with another token": "refused",
        "without": "refused",
    }


@pytest.mark.slow
def test_a_job_submission_without_the_token_is_refused(tmp_path: Path) -> None:
    with ray_head(tmp_path) as head:
        body = json.dumps({"entrypoint": f"touch {tmp_path / 'ran'}"}).encode()
        for headers in ({}, {"Authorization": "Bearer " + "0" * 64}):
            request = urllib.request.Request(
                f"{head.url}/api/jobs/",
                data=body,
                headers={"Content-Type": "application/json", **headers},
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=20)
            assert refused.value.code in (401, 403)
        assert head.get("/api/jobs/") == []
    assert not (tmp_path / "ran").exists()
