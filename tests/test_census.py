"""What all trials of a grid come to is told from a few of them as from a look at each."""

import random
from pathlib import Path

import pytest

from raylab.config.expand import expand
from raylab.config.grid import read_grid
from raylab.errors import Refused
from raylab.images.source import Source, scan
from raylab.sweep import plan as planned
from raylab.sweep.census import census_of
from raylab.sweep.plan import Plan

ROOT = Path(__file__).parent.parent
AXES = {
    "lr": ["[0.1]", "[0.1, 0.01]", "[0.1, 1.0e-1]", "[0.3, 0.2, 0.1]"],
    "drop_rate": ["[0.0, 0.5]", "[0, 0.0]"],
    "optimizer": ["[adamw, sgd]"],
    "epochs": ["[4]", "[4, 8]"],
    "warmup_epochs": ["[0, 2]"],
    "image_size": ["[32]", "[32, 48, 64]"],
    "channels": ["[1, 3]"],
    "model": ["[cnn, resnet18]"],
    "augment": ["[none, light]", "[{flip: 0.5}]"],
    "split.train": ["[0.7, 0.75]"],
    "split.folds": ["[3, 5]"],
}
ZIPS = [
    "[{batch_size: [64, 128], weight_decay: [0.1, 0.2]}]",
    "[{interpolation: [auto, bilinear]}]",
]
LEVERS = [
    "[{label_smoothing: 0.1}]",
    "[{label_smoothing: 0.0}]",
    "[{mixup: 0.2, image_size: 96}, {cutmix: 1.0}]",
]
EXCLUDES = [
    "[{lr: 0.1, seed: 1}]",
    "[{image_size: 32}]",
    "[{optimizer: sgd, epochs: 8}, {channels: 3}]",
    "[{split.fold: 2}]",
]


@pytest.fixture(scope="module")
def source() -> Source:
    return scan("toy:num=100")


def drawn(draw: random.Random) -> str:
    """A grid over some axes, which may also be refused."""
    names = draw.sample(sorted(AXES), draw.randint(0, 4))
    axes = ", ".join(f"{name}: {draw.choice(AXES[name])}" for name in names)
    text = f"data: toy\naxes: {{{axes}}}\nseeds: {draw.choice(['[0]', '[0, 1]', '[3, 1, 2]'])}\n"
    for key, choices in {"zip": ZIPS, "levers": LEVERS, "exclude": EXCLUDES}.items():
        if draw.random() < 0.4:
            text += f"{key}: {draw.choice(choices)}\n"
    return text


def test_drawn_grids_come_to_what_a_look_at_each_trial_says(source: Source, tmp_path: Path) -> None:
    draw, checked, with_more = random.Random(0), 0, 0
    for _ in range(400):
        text = drawn(draw)
        (tmp_path / "grid.yaml").write_text(text)
        try:
            plan = Plan(read_grid(tmp_path / "grid.yaml"), source)
        except Refused:
            continue
        configs = list(expand(plan.sweep, plan.finish))
        assert plan.census == census_of(configs), text
        assert plan.num_trials == len(configs), text
        checked += 1
        with_more += any(key in text for key in ("zip", "levers", "exclude"))
    assert checked > 200
    assert with_more > 100


@pytest.mark.parametrize("name", ["aug", "levers", "lr", "models", "split", "history"])
def test_grids_that_are_shipped_do_too(source: Source, name: str) -> None:
    plan = Plan(read_grid(ROOT / "grids" / f"{name}.yaml", data="toy:num=100"), source)
    assert plan.census == census_of(plan.configs())


def test_the_seeds_and_rates_of_a_grid_are_not_built(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ", ".join(str(i / 1000) for i in range(1, 101))
    text = f"data: toy\naxes: {{lr: [{rates}], image_size: [32, 48]}}\nseeds: [0, 1, 2, 3, 4]\n"
    (tmp_path / "grid.yaml").write_text(text)
    finished = []
    monkeypatch.setattr(planned.Plan, "finish", lambda self, c: finished.append(c) or c)
    plan = Plan(read_grid(tmp_path / "grid.yaml"), source)
    assert plan.num_epochs == 1000 * next(plan.configs()).epochs
    assert plan.fields == ("image_size", "lr", "seed")
    assert len(finished) < 20
