"""The environment's record: what it takes to repeat a run, also where something is missing."""

import json
import subprocess
from pathlib import Path

import pytest

from raylab.results.environment import (
    environment,
    git_sha,
    num_visible_gpus,
)


def git(folder: Path, *arguments: str) -> None:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert found["git_sha"] is None
    assert found["packages"]["ray"]
    assert found["num_cpus"] >= 1
    json.dumps(found)


def test_change_of_the_code_is_kept_beside_its_commit(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    clean = git_sha(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a.py").write_text("x = 2\n")
    assert git_sha(tmp_path) == clean + "+"
    assert "+x = 2" in environment(tmp_path)["git_diff"]


def test_machine_without_git_or_gpu_is_described_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environment(tmp_path)
    assert found["git_sha"] is None
    assert found["gpus"] == []


@pytest.mark.parametrize(
    ("named", "num"), [(None, 3), ("", 0), ("1", 1), ("0,2", 2), ("0,1,2,3", 3)]
)
def test_gpus_that_are_hidden_from_ray_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, num: int
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf 'H100\\nH100\\nH100\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert num_visible_gpus() == num
    assert len(environment(tmp_path)["gpus"]) == 3
