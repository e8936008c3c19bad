"""What a plan foresees: kinds of trial, time in slots, ASHA's share, what was measured before."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from raylab.config.expand import config_from
from raylab.config.grid import read_grid
from raylab.config.sweep import Resources, Scheduler
from raylab.config.trial import TrialConfig
from raylab.forecast.estimate import Measured, Speed, estimate, laid_out, local_slots
from raylab.forecast.halving import expected_share
from raylab.forecast.measured import measured_trials
from raylab.forecast.overview import Question, overview
from raylab.forecast.spread import Spread
from raylab.forecast.workload import workload_of
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.outline import plan_text
from raylab.results.record import record_from
from raylab.sweep.plan import Plan

EXACTLY = Spread.exactly


def plan_of(folder: Path, text: str) -> Plan:
    (folder / "grid.yaml").write_text(f"data: toy:num=100\n{text}\n")
    return Plan(read_grid(folder / "grid.yaml"), scan("toy:num=100"))


def speed(train_s: float, trial_s: float = 0.0) -> Speed:
    return Speed(EXACTLY(train_s), EXACTLY(0.0), EXACTLY(trial_s))


def test_what_only_moves_numbers_is_no_other_workload() -> None:
    base = TrialConfig()
    same = TrialConfig(lr=0.1, seed=3, epochs=5, label_smoothing=0.1, weight_decay=0.0)
    assert workload_of(same) == workload_of(base)
    others = [
        TrialConfig(model="cnn"),
        TrialConfig(image_size=48),
        TrialConfig(batch_size=64),
        TrialConfig(augment="light"),
        TrialConfig(mixup=0.2),
        TrialConfig(sam_rho=0.05),
        TrialConfig(tta="flip"),
    ]
    assert len({workload_of(config) for config in [base, *others]}) == len(others) + 1


def test_how_strong_an_operation_is_costs_nothing() -> None:
    weak, strong = (TrialConfig(augment={"rotate_deg": deg}, mixup=deg) for deg in (1, 9))
    assert workload_of(weak) == workload_of(strong)


def test_a_last_round_of_few_trials_counts_whole() -> None:
    share = EXACTLY(1.0)
    assert laid_out([EXACTLY(10.0)] * 5, 2, share).mid == 30
    assert laid_out([EXACTLY(10.0)] * 4, 2, share).mid == 20
    assert laid_out([EXACTLY(s) for s in (30.0, 10.0, 10.0, 10.0)], 2, share).mid == 30
    assert laid_out([], 2, share).mid == 0


def test_the_estimate_adds_up_epochs_images_and_what_each_trial_costs_once(tmp_path: Path) -> None:
    text = "trial: {model: cnn, epochs: 3}\naxes: {augment: [none, light], lr: [0.1, 0.2]}"
    plan = plan_of(tmp_path, text)
    plain, augmented = (workload_of(c) for c in list(plan.configs())[::2])
    measured = Measured({plain: speed(0.01, 1.0), augmented: speed(0.02, 1.0)}, EXACTLY(7), "test")
    found = estimate(plan, plan.configs(), measured, 1, EXACTLY(5))
    assert not isinstance(found, list)
    # 80 of 100 images train, 3 epochs: 2.4 s and 4.8 s, twice each, and a second per trial.
    assert found.trials.mid == pytest.approx(2 * (2.4 + 4.8) + 4)
    assert found.whole.mid == pytest.approx(7 + 5 + found.trials.mid)
    del measured.speeds[augmented]  # type: ignore[attr-defined]
    assert estimate(plan, plan.configs(), measured, 1, EXACTLY(5)) == [augmented]


@pytest.mark.parametrize(("epochs", "grace", "factor"), [(20, 2, 3), (9, 1, 3), (16, 4, 2)])
def test_the_share_that_asha_leaves_is_what_rays_scheduler_leaves(
    epochs: int, grace: int, factor: int
) -> None:
    scheduler = Scheduler(kind="asha", grace_epochs=grace, reduction_factor=factor)
    foreseen = expected_share(scheduler, [epochs] * 200)
    shares = [rays_share(epochs, grace, factor, seed) for seed in range(10)]
    assert foreseen.mid == pytest.approx(sum(shares) / len(shares), abs=0.03)
    assert foreseen.low <= foreseen.mid <= foreseen.high < 1


def rays_share(epochs: int, grace: int, factor: int, seed: int) -> float:
    """200 trials of constant worth, one after another, through Ray's own scheduler."""
    ray_asha = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="worth",
        mode="max",
        max_t=epochs,
        stop_last_trials=False,
        grace_period=grace,
        reduction_factor=factor,
    )
    rng, num_run = random.Random(1000 + seed), 0
    for index in range(200):
        trial: Any = SimpleNamespace(trial_id=str(index))
        ray_asha.on_trial_add(None, trial)  # type: ignore[arg-type]
        worth = rng.random()
        for epoch in range(1, epochs + 1):
            num_run += 1
            result = {"epoch": epoch, "worth": worth}
            if ray_asha.on_trial_result(None, trial, result) == "STOP":  # type: ignore[arg-type]
                break
    return num_run / (200 * epochs)


def test_rungs_stand_where_ray_has_them() -> None:
    assert Scheduler(kind="asha", grace_epochs=2, reduction_factor=3).rungs(20) == [2, 6, 18]


def test_without_a_scheduler_all_epochs_run() -> None:
    assert expected_share(Scheduler(), [5, 5]).mid == 1


def test_slots_are_what_cpus_gpus_and_the_grid_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raylab.forecast.estimate.num_cpus", lambda: 16)
    assert local_slots(Resources(), 0) == 16
    assert local_slots(Resources(cpus=3), 0) == 5
    assert local_slots(Resources(), num_gpus=2) == 2
    assert local_slots(Resources(gpus=0.25), num_gpus=2) == 8
    assert local_slots(Resources(gpus=0.4), num_gpus=2) == 4
    assert local_slots(Resources(gpus=2.0), num_gpus=5) == 2
    assert local_slots(Resources(gpus=1.0), num_gpus=0) == 0
    assert local_slots(Resources(max_concurrent=4), 0) == 4
    assert local_slots(Resources(workers=17), 0) == 0


@pytest.fixture
def earlier(tmp_path: Path) -> ResultsDirectory:
    """Two cnn trials at 64 px: 100 images/s, half a second of validation, a second beside."""
    results = ResultsDirectory(tmp_path / "earlier")
    row = {"val_accuracy": 0.5, "val_loss": 1.0, "train_images_per_s": 100.0, "seconds": 1.3}
    epochs = [{"epoch": 1, **row}, {"epoch": 2, **row}]
    for lr in (0.1, 0.2):
        config = TrialConfig(model="cnn", lr=lr, epochs=2)
        facts: dict[str, Any] = {"num_train": 80, "num_val": 10, "seconds": 3.6}
        results.add(record_from(config, "data", "split", epochs, "complete", **facts))
    return results


def test_measured_trials_tell_seconds_per_image(earlier: ResultsDirectory) -> None:
    measured = measured_trials([earlier], workers=1)
    assert measured is not None
    (found,) = measured.speeds.values()
    assert found.train_s.mid == pytest.approx(0.01)
    assert found.val_s.mid == pytest.approx(0.05)
    assert found.trial_s.mid == pytest.approx(1.0)
    assert measured.basis == "2 measured trials on cpu"
    assert measured_trials([earlier], workers=2) is None


def test_the_latest_trials_tell_and_not_all_are_held(
    earlier: ResultsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = TrialConfig(model="cnn", lr=0.3, epochs=1)
    row = {"epoch": 1, "val_accuracy": 0.5, "train_images_per_s": 50.0, "seconds": 2.0}
    facts: dict[str, Any] = {"num_train": 80, "num_val": 10, "started_at": "9999"}
    earlier.add(record_from(late, "data", "split", [row], "complete", **facts))
    monkeypatch.setattr("raylab.forecast.measured.MAX_TRIALS", 1)
    monkeypatch.setattr(ResultsDirectory, "records", lambda self: pytest.fail("all are held"))
    measured = measured_trials([earlier], workers=1)
    assert measured is not None
    assert [found.train_s.mid for found in measured.speeds.values()] == [pytest.approx(0.02)]


def test_the_start_of_workers_is_part_of_what_was_measured(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path / "earlier")
    row = {"val_accuracy": 0.5, "train_images_per_s": 100.0, "seconds": 1.0}
    config = TrialConfig(model="cnn", epochs=10)
    epochs = [{"epoch": epoch, **row} for epoch in range(1, 11)]
    facts: dict[str, Any] = {"num_train": 80, "num_val": 10, "num_workers": 2, "seconds": 23.5}
    results.add(record_from(config, "data", "split", epochs, "complete", **facts))
    measured = measured_trials([results], workers=2)
    assert measured is not None
    assert measured.speeds[workload_of(config)].of_trial(10, 80, 10, 2).mid == pytest.approx(23.5)


def test_the_plan_tells_time_cost_and_end_from_measured_trials(
    tmp_path: Path, earlier: ResultsDirectory
) -> None:
    text = (
        "trial: {model: cnn, epochs: 10}\naxes: {lr: [0.1, 0.2, 0.3, 0.4]}\n"
        "resources: {usd_per_hour: 36}"
    )
    results = ResultsDirectory(tmp_path / "results")
    found = overview(plan_of(tmp_path, text), Question(results, (earlier,), slots=2))
    # 10 epochs of 0.8 + 0.5 s and a second beside, two rounds of two.
    assert found["time"]["trials_s"] == pytest.approx(2 * 14)
    assert found["time"]["usd"]["mid"] == pytest.approx(found["time"]["seconds"]["mid"] / 100)
    told = plan_text(found)
    assert "2 at a time; from 2 measured trials on cpu" in told
    assert "USD [" in told
    assert "if it starts now" in told


def test_the_gpus_of_this_machine_bound_the_slots_of_the_plan(
    tmp_path: Path, earlier: ResultsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylab.forecast.estimate.num_cpus", lambda: 16)
    monkeypatch.setattr("raylab.forecast.overview.num_visible_gpus", lambda: 1)
    plan = plan_of(tmp_path, "trial: {model: cnn, epochs: 1}\naxes: {lr: [0.1, 0.2, 0.3]}")
    results = ResultsDirectory(tmp_path / "results")
    time = overview(plan, Question(results, (earlier,)))["time"]
    assert time["slots"] == 1
    assert "gpus: auto may let trials share a GPU" in " ".join(time["remarks"])
    assert overview(plan, Question(results, (earlier,), slots=3))["time"]["remarks"] == []
    whole = plan_of(
        tmp_path,
        "trial: {model: cnn, epochs: 1}\naxes: {lr: [0.1, 0.2, 0.3]}\nresources: {gpus: 1}",
    )
    assert overview(whole, Question(results, (earlier,)))["time"]["remarks"] == []


def test_the_plan_says_what_was_never_measured(tmp_path: Path, earlier: ResultsDirectory) -> None:
    results = ResultsDirectory(tmp_path / "results")
    other = plan_of(tmp_path, "trial: {model: resnet18}")
    found = overview(other, Question(results, (earlier,)))["time"]
    assert "never measured: resnet18 at 64 px, batches of 128" in found["unknown"]
    assert "--probe" in overview(other, Question(results))["time"]["unknown"]


def test_a_budget_and_asha_are_told_with_the_time(
    tmp_path: Path, earlier: ResultsDirectory
) -> None:
    text = (
        "trial: {model: cnn, epochs: 1000}\naxes: {lr: [0.1, 0.2, 0.3]}\nscheduler: asha\n"
        "budget: {hours: 0.1}"
    )
    results = ResultsDirectory(tmp_path / "results")
    told = plan_text(overview(plan_of(tmp_path, text), Question(results, (earlier,), slots=1)))
    assert "of the epochs will run [" in told
    assert "budget: no trial starts after 0.1 h" in told


def test_the_plan_shows_trials_by_what_differs_and_where_they_are_done(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "trial: {model: cnn, epochs: 1}\naxes: {lr: [0.1, 0.2, 0.3]}")
    here, there = (ResultsDirectory(tmp_path / name) for name in ("here", "there"))
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0}
    first, second, _ = plan.configs()
    fingerprint = plan.source.fingerprint
    here.add(record_from(first, fingerprint, "split", [row], "complete"))
    for config in (first, second):
        there.add(record_from(config, fingerprint, "split", [row], "complete"))
    found = overview(plan, Question(here, (there,), top=2))
    assert [row["lr"] for row in found["rows"]] == [0.1, 0.2]
    assert [row["done_in"] for row in found["rows"]] == [here.location, there.location]
    assert (found["done"], found["elsewhere"]) == (1, {there.location: 1})
    lines = plan_text(found).splitlines()
    assert any(line.endswith(f"0.2  done in {there.location}") for line in lines)
    assert lines[-1] == "… 1 more of 3 trials"


def test_a_variant_is_told_with_its_size_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLAB_CACHE", str(tmp_path / "cache"))
    plan = plan_of(tmp_path, "trial: {image_size: 32, channels: 1}")
    (variant,) = overview(plan, Question(ResultsDirectory(tmp_path / "r")))["variants"]
    assert variant["bytes"] == 100 * 32 * 32
    assert 0.2 * variant["bytes"] < variant["disk_bytes"] < 1.1 * variant["bytes"]
    assert not variant["prepared"]
    assert not (tmp_path / "cache").exists()


def test_an_optuna_search_takes_what_its_axes_allow_on_average(tmp_path: Path) -> None:
    models = {"cnn": 0.001, "resnet18": 0.01, "resnet50": 0.03}
    text = (
        "trial: {epochs: 10}\nsearch: {optuna: {num_trials: 8}}\n"
        "axes: {model: [cnn, resnet18, resnet50], lr: {loguniform: [0.01, 1]}, epochs: [5, 50]}"
    )
    kinds = {workload_of(TrialConfig(model=m)): speed(train_s) for m, train_s in models.items()}
    measured = Measured(kinds, EXACTLY(0.0), "test")
    question = Question(ResultsDirectory(tmp_path / "r"), (), measured, slots=1)
    found, epochs = overview(plan_of(tmp_path, text), question), 8 * (5 + 50) / 2
    assert found["epochs"] == epochs
    seconds_per_epoch = 80 * sum(models.values()) / 3
    assert found["time"]["trials_s"] == pytest.approx(epochs * seconds_per_epoch)
    assert "averages of 6 draws" in " ".join(found["time"]["remarks"])


def test_what_optuna_drew_and_ran_is_done(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "trial: {model: cnn, epochs: 1}\naxes: {lr: {loguniform: [1.0e-4, 1.0e-1]}}\n"
        "search: {optuna: {num_trials: 3}}\nseeds: [0, 1]",
    )
    results = ResultsDirectory(tmp_path / "results")
    results.write_draws([{"lr": 0.01}, {"lr": 0.001}, {"weight_decay": 0.5}])  # of other axes
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0}
    drawn = [config_from(plan.sweep, {"lr": lr}, seed) for lr in (0.01, 0.001) for seed in (0, 1)]
    for config in map(plan.finish, drawn[:3]):
        results.add(record_from(config, plan.source.fingerprint, "split", [row], "complete"))
    found = overview(plan, Question(results))
    assert (found["trials"], found["done"], found["to_run"]) == (6, 3, 3)
    here = results.location
    shown = [(each["lr"], each["seed"], each["done_in"]) for each in found["rows"]]
    assert shown == [(0.01, 0, here), (0.01, 1, here), (0.001, 0, here), (0.001, 1, None)]
