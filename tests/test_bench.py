"""`raylab bench`: rows and their verdicts, what is drawn from events, and small real runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from raylab.bench import documented, memory, run, side_by_side, start, watch
from raylab.bench.bare import BareJob, train_bare, validate
from raylab.bench.gpu import job_on, train_core, train_fixed_batch
from raylab.bench.hand import HandJob, train_by_hand
from raylab.bench.photos import write_photos
from raylab.bench.prepare import decode_full, reduced_scale
from raylab.bench.records import write_records, write_tables
from raylab.bench.row import Row, at_least, at_most, compared, judged, quantile, repeated, spread
from raylab.bench.side_by_side import SideBySide
from raylab.bench.table import as_json, number, render
from raylab.bench.trials import FILLER_SEED, StepProposer
from raylab.bench.watch import Seen
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import read

ROOT = Path(__file__).parent.parent
TINY = TrialConfig(model="cnn", image_size=16, epochs=1, batch_size=16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a slot of one CPU has; more of them on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Rows


def test_a_ceiling_is_held_up_to_its_number_and_a_floor_from_it() -> None:
    assert judged("x", 0.1, "s", at_most(0.1), "").verdict == "ok"
    assert judged("x", 0.11, "s", at_most(0.1), "").verdict == "missed"
    assert judged("x", 3, "x", at_least(3), "").verdict == "ok"
    assert judged("x", 2.9, "x", at_least(3), "").verdict == "missed"
    assert judged("x", 2.9, "x", None, "").verdict == "info"


def test_ratio_is_of_the_medians_and_a_speed_up_is_its_inverse() -> None:
    row = compared("x", [2.0, 2.0, 2.1], [4.0, 4.1, 4.0], "s", at_most(0.6), "")
    assert (row.value, row.baseline, row.ratio, row.verdict) == (2.0, 4.0, 0.5, "ok")
    faster = compared("x", [2.0], [4.0], "s", at_least(2.5), "", speed_up=True)
    assert (faster.ratio, faster.verdict) == (2.0, "missed")


def test_rounds_that_disagree_about_the_limit_on_a_busy_machine_are_called_noisy() -> None:
    assert spread([1.0, 1.0, 1.3]) == pytest.approx(0.3)
    row = compared("x", [1.0, 1.3], [1.0, 1.0], "s", at_most(1.1), "")
    assert row.verdict == "noisy"
    assert repeated("x", [0.2, 0.25, 0.4], "s", at_most(0.3), "").verdict == "noisy"


def test_noise_far_from_the_limit_leaves_no_doubt() -> None:
    assert compared("x", [1.0, 1.5], [4.0, 4.0], "s", at_most(0.6), "").verdict == "ok"
    assert compared("x", [9.0, 6.0], [4.0, 4.0], "s", at_most(0.6), "").verdict == "missed"


def test_quiet_rounds_on_both_sides_of_the_limit_are_no_noise() -> None:
    assert compared("x", [1.07, 1.09], [1.0, 1.0], "s", at_most(1.1), "").verdict == "ok"
    assert compared("x", [1.09, 1.12], [1.0, 1.0], "s", at_most(1.1), "").verdict == "missed"


def test_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([float(i) for i in range(100)], 0.95) == 95
    assert quantile([3.0], 0.95) == 3.0


# Table


def test_table_shows_every_row_with_its_limit_and_how_it_was_measured() -> None:
    rows = [
        Row("launch", 0.0123, "s", limit=at_most(0.1), verdict="ok", how="in warm slots"),
        Row("sweep", 12.0, "s", 10.0, 1.2, at_most(1.08), "missed", "medians"),
        Row("group", None, "", verdict="failed", how="no Ray"),
    ]
    lines = render(rows, "a machine").splitlines()
    assert lines[0] == "a machine"
    shown = next(line.split() for line in lines if line.startswith(" sweep "))
    assert shown == ["sweep", "12", "s", "10", "s", "1.2", "≤", "1.08", "missed"]
    assert "launch: in warm slots" in lines
    assert "group: no Ray" in lines


def test_json_holds_the_machine_and_plain_rows() -> None:
    row = Row("launch", 0.0123, "s", limit=at_most(0.1), verdict="ok", how="so")
    value = json.loads(as_json([row], {"cpu": "a"}))
    assert value["machine"] == {"cpu": "a"}
    assert value["rows"][0] == {
        **{"what": "launch", "value": 0.0123, "unit": "s", "baseline": None, "ratio": None},
        **{"limit": "≤ 0.1", "verdict": "ok", "how": "so"},
    }


def test_numbers_keep_three_digits_that_count() -> None:
    assert [number(v) for v in (0.01234, 1.084, 99.9, 12345.6)] == [
        "0.0123",
        "1.08",
        "99.9",
        "12,346",
    ]


# What runs


def test_quick_is_a_part_of_all_and_a_gpu_is_asked_for() -> None:
    full = {each.name for each in run.chosen([], quick=False, on_gpu=False)}
    quick = {each.name for each in run.chosen([], quick=True, on_gpu=False)}
    assert quick < full
    assert "gpu" not in full
    only = run.chosen(["prepare", "launch"], quick=False, on_gpu=False)
    assert [each.name for each in only] == ["launch", "prepare"]


def test_an_unknown_measurement_is_refused_with_a_hint() -> None:
    with pytest.raises(Refused, match="did you mean launch"):
        run.chosen(["lanch"], quick=True, on_gpu=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_is_refused_in_one_sentence_where_there_is_none() -> None:
    with pytest.raises(Refused, match=r"torch\.cuda sees no GPU on this machine"):
        run.chosen([], quick=True, on_gpu=True)


def test_what_cannot_be_measured_gives_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    def fails(stage: run.Stage) -> list[Row]:
        raise CannotFinish("first\nno such luck")

    stage = run.Stage(tmp_path, quick=True, num_cpus=1, note=lambda text: None)
    rows = run.guarded(run.Measurement("x", fails), stage)
    assert [(row.verdict, row.how) for row in rows] == [("failed", "no such luck")]
    assert run.Bench({}, rows).exit_code == 1
    assert run.Bench({}, [Row("x", 1.0, "s", verdict="missed")]).exit_code == 0


def test_the_documented_pattern_runs_without_raylabs_switches() -> None:
    given = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1", "RAY_ADDRESS": "auto", "PATH": "/bin"}
    assert documented.unswitched(given) == {"PATH": "/bin"}


# From events to seconds


def trial(start: float, first: float, *epochs: float, end: float) -> Seen:
    """One that started, made its first step, ran epochs of these seconds, and ended."""
    arrivals, now = [], first
    for seconds in epochs:
        now += seconds
        arrivals.append(now)
    return Seen(TINY, start, end, arrivals, list(epochs))


def test_a_trial_follows_the_one_that_freed_its_slot_last() -> None:
    a, b = trial(0, 0, 1, end=10), trial(0, 0, 1, end=12)
    c, d = trial(10.1, 10.2, 1, end=20), trial(12.1, 12.2, 1, end=20)
    assert watch.predecessors([d, c, b, a]) == [(a, c), (b, d)]


def test_launch_is_from_the_last_step_to_the_next_first_step() -> None:
    first, second = trial(0, 5, 1, 1, end=7.2), trial(7.3, 7.5, 2, end=9.6)
    assert watch.launches([first, second]) == pytest.approx([0.5])


def test_overhead_is_all_slot_time_that_is_no_epoch() -> None:
    trials = [trial(0, 0.1, 1, end=1.2), trial(0, 0.1, 1.5, end=2.0)]
    assert watch.overhead_per_trial(trials, 2) == pytest.approx((2.0 * 2 - 2.5) / 2)


def test_a_step_begins_when_all_slots_are_warm_and_the_step_before_has_ended() -> None:
    told: list[str] = []
    configs = [TINY.model_copy(update={"seed": seed}) for seed in range(3)]
    proposer = StepProposer([configs[:2], lambda: told.append("now"), configs[2:]], TINY, 2)

    def is_filler(config: TrialConfig | None) -> bool:
        return config is not None and config.seed >= FILLER_SEED

    fillers = [proposer.propose() for _ in range(3)]
    assert all(is_filler(config) for config in fillers)
    assert len({config.seed for config in fillers if config}) == 3  # none is the same trial
    assert fillers[0]
    assert fillers[1]
    assert fillers[2]
    proposer.observe(fillers[0], 0.5)
    proposer.observe(fillers[2], 0.5)  # the warm slot's second: the other one still starts
    assert is_filler(proposer.propose())
    proposer.observe(fillers[1], 0.5)
    assert [proposer.propose(), proposer.propose()] == configs[:2]
    assert is_filler(proposer.propose())
    proposer.observe(configs[0], 0.5)
    assert is_filler(proposer.propose())
    assert not told
    proposer.observe(configs[1], None)
    assert proposer.propose() == configs[2]
    assert told == ["now"]
    proposer.observe(configs[2], 0.5)
    assert proposer.propose() is None


# Sides


def bare(naive: bool) -> BareJob:
    """A class is a brightness."""
    labels = np.arange(64) % 2
    noise = np.random.default_rng(0).integers(0, 60, (64, 16, 16, 3))
    images = (noise + labels[:, None, None, None] * 150).astype(np.uint8)
    config = TINY.model_copy(update={"epochs": 2, "amp": "none"})
    return BareJob(config, images, labels, np.arange(48), np.arange(48, 64), 2, 1, naive)


@pytest.mark.parametrize("naive", [False, True])
def test_bare_loop_runs_the_steps_of_all_its_trials(naive: bool) -> None:
    assert train_bare(bare(naive)) == 2 * 48


def test_bare_loop_counts_hits() -> None:
    job = bare(naive=True)

    class ByBrightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            bright = images.mean((1, 2, 3))
            return torch.stack([-bright, bright], 1)

    images, labels = torch.tensor(job.images), torch.tensor(job.labels)
    assert validate(ByBrightness(), images, labels, torch.arange(64), None, True) == 1.0


def test_core_and_fixed_batch_count_the_images_of_the_same_job() -> None:
    job = job_on("cpu", num_images=40, image_size=16)
    config = TINY.model_copy(update={"amp": "none"})
    small = BareJob(config, job.images, job.labels, job.train, job.val, job.num_classes)
    assert train_core(small) == 36
    assert train_fixed_batch(small) == 32


def test_hand_written_loop_gives_seconds_per_image(tmp_path: Path) -> None:
    write_folder(tmp_path, 100)
    times = train_by_hand(HandJob(TINY, str(tmp_path), 0, 1))
    assert times.train_s > 0
    assert times.val_s > 0


def double(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@pytest.mark.slow
def test_processes_begin_together_and_a_failure_is_told() -> None:
    with SideBySide(2) as processes:
        parts = processes.run(double, 3)
        assert [part.result for part in parts] == [6, 6]
        assert side_by_side.wall(parts) < 1
        with pytest.raises(CannotFinish, match="ValueError: negative"):
            processes.run(double, -1)


# Images


def test_photos_are_distinct_files_of_the_wanted_size(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 20, (60, 50))
    assert len({path.read_bytes() for path in paths}) == 20
    assert decode_full(paths[-1].read_bytes(), 16).shape == (16, 16, 3)


def test_reduced_scale_is_compared_with_a_full_decode(tmp_path: Path) -> None:
    speed, error = reduced_scale(write_photos(tmp_path, 2, (1600, 1200)))
    assert speed.ratio is not None
    assert speed.ratio > 1
    assert error.verdict == "ok"


def test_memory_is_read_mapping_by_mapping() -> None:
    text = """7f00-7f10 rw-s 00000000 00:1a 12  /dev/shm/plasmaXYZ (deleted)
Size:              100 kB
Pss:                40 kB
7f20-7f30 rw-p 00000000 00:00 0  [heap]
Pss:                 7 kB
Pss_Anon:            7 kB
"""
    assert memory.parse_smaps(text) == memory.Held(40 * 1024, 7 * 1024)


def test_images_held_twice_miss_the_limit() -> None:
    once, twice = memory.Held(1000, 0), memory.Held(2000, 0)
    rows = memory.rows_of({1: once, 2: twice}, 0.0, 1000)
    assert [row.verdict for row in rows] == ["ok", "missed"]
    copied = memory.rows_of({1: memory.Held(100, 1000)}, 0.0, 1000)
    assert copied[0].verdict == "missed"


# Commands


def test_a_command_is_timed_with_the_memory_that_it_alone_took() -> None:
    small, large = (
        start.timed([sys.executable, "-c", f"held = b'x' * ({mib} * 2**20)"]) for mib in (1, 101)
    )
    assert small.seconds > 0
    assert large.peak_bytes - small.peak_bytes > 90 * 2**20


def test_a_command_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(CannotFinish, match="no such luck"):
        start.timed([sys.executable, "-c", "raise SystemExit('no such luck')"])


# Records


def test_invented_records_are_a_leaderboard_like_any_other(tmp_path: Path) -> None:
    first, last = write_records(tmp_path / "records", 20)
    assert min(first, last) > 0
    assert len(read([str(tmp_path / "records")])) == 20
    write_tables(tmp_path / "tables", 3000)
    ids = ResultsDirectory(str(tmp_path / "tables")).leaderboard()["trial_id"].to_pylist()
    assert len(set(ids)) == 3000


@pytest.mark.slow
def test_bench_prints_rows_of_one_shape_as_json() -> None:
    command = [sys.executable, "-m", "raylab", "bench", "--quick", "--json"]
    done = subprocess.run(
        [*command, "--only", "launch", "memory"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    names = {"what", "value", "unit", "baseline", "ratio", "limit", "verdict", "how"}
    assert all(set(row) == names for row in value["rows"])
    assert all(row["verdict"] in ("ok", "missed", "noisy", "info") for row in value["rows"])
    assert {row["what"].split(",")[0] for row in value["rows"]} >= {"launch in a warm slot"}
    assert value["machine"]["num_cpus"] >= 1
    assert "done in" in done.stderr
