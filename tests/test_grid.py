"""A grid is checked whole: every problem is told, with its place and a way out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylab.config.expand import count_trials
from raylab.config.fields import without_dots
from raylab.config.grid import read_grid
from raylab.config.sweep import Distribution, SweepConfig
from raylab.errors import Refused

BAD_GRIDS = sorted(Path(__file__).with_name("bad_grids").glob("*.yaml"))


def grid_file(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, *overrides: str) -> SweepConfig:
    return read_grid(grid_file(folder, text), overrides=overrides)


def refusal(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(Refused) as caught:
        read(folder, text, *overrides)
    return str(caught.value).splitlines()


def comments(path: Path, key: str) -> list[str]:
    return re.findall(rf"^# {key}: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_many_bad_grids() -> None:
    assert len(BAD_GRIDS) >= 40


@pytest.mark.parametrize("path", BAD_GRIDS, ids=lambda path: path.stem)
def test_bad_grid_is_refused_with_its_one_mistake(path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read_grid(path, overrides=comments(path, "set"))
    lines = str(caught.value).splitlines()
    assert comments(path, "expect")[0] in lines[0]
    assert lines[-1].endswith(f"in {path}; no trial was started.")
    assert len(lines) == 2, lines
    has_line = re.match(rf"{re.escape(str(path))}:\d+  ", lines[0])
    whole_file = {"empty_file", "data_left_out"}
    assert has_line or lines[0].startswith("--set ") or path.stem in whole_file


def test_all_problems_are_told_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """# what is wrong here?
data: nowhere
trial:
  augmnt: light
  model: resnet19
axes:
  lr:
    - 0.1
    - 0
metric: val_acc
keep: many
"""
    lines = refusal(tmp_path, text, "trial.epochs=0")
    name = tmp_path / "grid.yaml"
    starts = [
        f"{name}:2  data: 'nowhere' does not exist",
        f"{name}:4  trial.augmnt: no such field; did you mean augment?",
        f"{name}:5  trial.model: 'resnet19' is neither cnn nor a timm model",
        f"{name}:9  axes.lr: 0 is not > 0",
        f"{name}:10  metric: 'val_acc' is not one of",
        f"{name}:11  keep: 'many' is not a whole number",
        "--set trial.epochs  trial.epochs: 0 is not >= 1",
    ]
    assert len(lines) == len(starts) + 1
    for line, start in zip(lines, starts, strict=False):
        assert line.startswith(start)
    assert lines[-1] == f"7 problems in {name}; no trial was started."


def test_a_file_that_is_not_there_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "augment.yaml").write_text("data: toy\n")
    with pytest.raises(Refused, match=r"no such file; did you mean augment\.yaml"):
        read_grid(tmp_path / "augmnt.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_bytes(b"data: \xff\xfe toy")
    with pytest.raises(Refused, match="not UTF-8 text"):
        read_grid(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested deeper" in refusal(tmp_path, "data: toy\naxes: " + "[" * 5000)[0]


def test_defaults(tmp_path: Path) -> None:
    sweep = read(tmp_path, "data: toy\n")
    assert sweep == SweepConfig(name="grid", data="toy")


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "1E-3", "0.001", ".001", "+1e-3"])
def test_numbers_are_numbers(tmp_path: Path, number: str) -> None:
    sweep = read(tmp_path, f"data: toy\ntrial: {{lr: {number}}}\n")
    assert sweep.trial == {"lr": 0.001}


def test_data_is_relative_to_the_grid_and_the_option_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "기쁨 faces").mkdir()
    (tmp_path / "elsewhere" / "faces").mkdir(parents=True)
    path = grid_file(tmp_path, "data: 기쁨 faces\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_grid(path).data == str(tmp_path / "기쁨 faces")
    assert read_grid(path, data="faces").data == str(tmp_path / "elsewhere" / "faces")
    with pytest.raises(Refused, match=r"--data  data: 'gone' does not exist"):
        read_grid(path, data="gone")


@pytest.mark.parametrize("data", ["toy", "toy:num=700,wrong=0.05", "s3://bucket/faces"])
def test_toy_and_uris_stay_as_they_are(tmp_path: Path, data: str) -> None:
    assert read_grid(grid_file(tmp_path, "data: nowhere\n"), data=data).data == data


def test_set_reaches_every_key(tmp_path: Path) -> None:
    text = "data: toy\ntrial: {augment: light}\naxes: {lr: [0.1]}\nzip: [{epochs: [1, 2]}]\n"
    sweep = read(
        tmp_path,
        text,
        "axes.lr=[1e-2, 1e-3]",
        "axes.augment.rotate_deg=[5, 10]",
        "trial.split.train=0.7",
        "trial.augment.flip=0.25",
        "zip=",
        "seeds=[3, 4]",
        "search.random.num_trials=7",
        "budget.hours=2",
        "name=other",
    )
    assert sweep.axes == {"lr": (0.01, 0.001), "augment.rotate_deg": (5, 10)}
    assert sweep.trial == {"augment": {"preset": "light", "flip": 0.25}, "split": {"train": 0.7}}
    assert (sweep.zip, sweep.seeds, sweep.name) == ((), (3, 4), "other")
    assert sweep.search.num_trials == 7
    assert sweep.budget.hours == 2


@pytest.mark.parametrize("written", ["split.test: 0.1", "split: {test: 0.1}", "split.train: 0.8"])
@pytest.mark.parametrize(
    ("option", "trial"),
    [
        ("trial.split.test=0.05", {"split": {"test": 0.05}}),
        ("trial.split={test: 0.05}", {"split": {"test": 0.05}}),
        ("trial.split.test=", {"split": {}}),
        ("trial.split=", {}),
    ],
)
def test_set_wins_however_the_file_writes_the_field(
    tmp_path: Path, written: str, option: str, trial: dict[str, Any]
) -> None:
    text = f"data: toy\ntrial: {{model: cnn, {written}}}\n"
    kept = {"split.train": 0.8} if "train" in written and option.startswith("trial.split.") else {}
    found = without_dots({**trial, **kept})
    assert read(tmp_path, text, option).trial == {"model": "cnn", **found}


def test_set_below_a_preset_keeps_the_preset(tmp_path: Path) -> None:
    text = "data: toy\ntrial: {augment: light, augment.flip: 0.1}\n"
    trial = read(tmp_path, text, "trial.augment.flip=0.25").trial
    assert trial == {"augment": {"preset": "light", "flip": 0.25}}


@pytest.mark.parametrize(
    "group", ["[{model: [cnn], lr: [0.1]}]", "{model: [cnn], lr: [0.1]}"], ids=["listed", "alone"]
)
def test_what_is_said_of_an_overruled_option_works(tmp_path: Path, group: str) -> None:
    text = f"data: toy\nzip: {group}\n"
    (line, _) = refusal(tmp_path, text, "trial.model=resnet18")
    advised = line.rpartition("set ")[2].removesuffix(" instead")
    (changed,) = read(tmp_path, text, f"{advised}=[resnet18]").zip
    assert changed == {"model": ("resnet18",), "lr": (0.1,)}


def test_setting_an_axis_leaves_the_order_of_the_trials(tmp_path: Path) -> None:
    text = "data: toy\naxes: {lr: [0.1, 0.2], mixup: [0, 0.2]}\n"
    assert list(read(tmp_path, text, "axes.lr=[0.3, 0.4]").axes) == ["lr", "mixup"]


def test_set_of_nothing_takes_the_key_out(tmp_path: Path) -> None:
    text = "data: toy\naxes: {lr: [0.1, 0.2], mixup: [0, 0.2]}\n"
    assert read(tmp_path, text, "axes.lr=null").axes == {"mixup": (0, 0.2)}


def test_ranges_for_a_search(tmp_path: Path) -> None:
    text = """data: toy
search: {optuna: {num_trials: 5}}
axes:
  lr: {loguniform: [1e-5, 1e-2]}
  epochs: {randint: [5, 10]}
  augment: {choice: [none, light]}
  mixup: [0, 0.2]
"""
    axes = read(tmp_path, text).axes
    assert axes["lr"] == Distribution(kind="loguniform", low=1e-5, high=1e-2)
    assert axes["epochs"] == Distribution(kind="randint", low=5, high=10)
    assert axes["augment"] == ("none", "light")


def test_a_capped_giant_is_allowed(tmp_path: Path) -> None:
    values = ", ".join(str(i / 1000) for i in range(1, 1001))
    text = f"data: toy\naxes: {{lr: [{values}], drop_rate: [{values[:-5]}]}}\nseeds: [0, 1]\n"
    assert "trials, more than 1,000,000" in refusal(tmp_path, text)[0]
    assert read(tmp_path, text, "budget.trials=50").budget.trials == 50


def test_a_disagreement_that_is_excluded_is_none(tmp_path: Path) -> None:
    text = "data: toy\naxes: {epochs: [5, 20], warmup_epochs: [0, 8]}\n"
    assert "warmup_epochs 8 must be < epochs 5" in refusal(tmp_path, text)[0]
    assert read(tmp_path, text + "exclude: [{epochs: 5, warmup_epochs: 8}]\n").exclude


def test_exclude_means_the_files_that_the_axes_name(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    text = "data: toy\naxes: {pretrained: [false, w.pth], lr: [0.1, 0.01]}\n"
    sweep = read(tmp_path, text + "exclude: [{pretrained: w.pth, lr: 0.1}]\n")
    assert count_trials(sweep) == 3
    missing = refusal(tmp_path, text + "exclude: [{pretrained: x.pth, lr: 0.1}]\n")
    assert "exclude[0].pretrained: weights file 'x.pth' does not exist" in missing[0]


def test_the_resolved_grid_reads_back_as_the_same_sweep(tmp_path: Path) -> None:
    text = """name: all keys
data: toy
trial: {model: cnn, augment: {preset: light, flip: 0.1}, split: {train: 0.7}}
axes: {lr: {loguniform: [1e-5, 1e-2]}, epochs: {randint: [5, 10]}, sampler: [shuffle, balanced]}
zip: [{image_size: [32, 48], batch_size: [64, 32]}]
exclude: [{sampler: balanced, image_size: 48}]
seeds: [1, 2]
search: {random: {num_trials: 5}}
scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}
metric: val_loss
budget: {hours: 1, trials: 6, usd: 3}
resources: {workers: 2, cpus: 1, gpus: 2, usd_per_hour: 1.5}
keep: 1
"""
    sweep = read(tmp_path, text)
    again = grid_file(tmp_path, yaml.safe_dump(sweep.as_grid(), allow_unicode=True))
    assert read_grid(again) == sweep
