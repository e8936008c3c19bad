"""The CPUs of a process: bound to some of them, or in a container with a quota."""

from pathlib import Path

import pytest

from raylab.machine import cpu_quota, num_cpus


def test_a_process_counts_the_cpus_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    for quota, wanted in ((float("inf"), 4), (2.5, 2), (0.5, 1), (64, 4)):
        monkeypatch.setattr("raylab.machine.cpu_quota", lambda quota=quota: quota)
        assert num_cpus() == wanted
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert num_cpus() == 8


def test_the_quota_of_a_container_is_read_in_both_versions_of_cgroups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == float("inf")
    (tmp_path / "cpu").mkdir()
    for quota, wanted in (("400000", 4), ("-1", float("inf"))):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        assert cpu_quota(tmp_path) == wanted
    for text, wanted in (("max 100000", float("inf")), ("150000 100000", 1.5)):
        (tmp_path / "cpu.max").write_text(f"{text}\n")
        assert cpu_quota(tmp_path) == wanted
