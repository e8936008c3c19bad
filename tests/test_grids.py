"""The shipped grids: each reads, says what it asks, and has the trials its header states."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raylab.api.models import as_picture, png
from raylab.config.differences import differing_fields
from raylab.config.expand import count_trials, expand
from raylab.config.grid import read_grid
from raylab.config.population import Population
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.images.crop import look
from raylab.images.toy import EMOTIONS, toy_images
from raylab.images.variant import Format
from raylab.training.loop import train
from raylab.training.worker import Collective, TrainingData

GRIDS = sorted((Path(__file__).parent.parent / "grids").glob("*.yaml"))


def test_every_question_of_the_week_has_its_grid() -> None:
    asked = {"aug", "models", "split", "epochs", "lr", "image_size", "history", "asha"}
    assert {path.stem for path in GRIDS} >= asked | {"quickstart"}
    assert {path.stem for path in GRIDS} >= {"levers", "plateau", "finetune", "gpu", "pbt"}


def configs_of(sweep: SweepConfig) -> Iterator[TrialConfig]:
    """Every trial; of a population those that there would be if all reached the same."""
    if sweep.search.kind != "pbt":
        yield from expand(sweep)
        return
    population = Population(sweep, lambda config: config, str, {})
    while True:
        yield from population.trials.values()
        population.outcomes |= dict.fromkeys(population.trials, 0.5)
        if not population.grow():
            return


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_grid_has_the_trials_its_header_states(path: Path) -> None:
    header = path.read_text(encoding="utf-8").splitlines()[0]
    stated = re.fullmatch(r"# .*\?  \((\d+) trials\)", header)
    assert stated, header
    sweep = read_grid(path)
    configs = list(configs_of(sweep))
    assert len(configs) == len(set(map(str, configs))) == int(stated[1]) == count_trials(sweep)
    assert sweep.name == path.stem
    assert sweep.data == "toy"


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_grid_differs_in_what_it_sweeps(path: Path) -> None:
    sweep = read_grid(path)
    swept = {*sweep.axes, *(key for group in sweep.zip for key in group)}
    swept |= {key for lever in sweep.levers for key in lever}
    if len(sweep.seeds) > 1:
        swept.add("seed")
    if sweep.search.kind == "pbt":
        swept |= {"pretrained", "seed"}
    follows = {"split.val"} if "split.train" in swept else set()
    assert set(differing_fields(configs_of(sweep))) == swept | follows


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_grid_runs_on_any_source(path: Path, tmp_path: Path) -> None:
    assert read_grid(path, data=str(tmp_path)).data == str(tmp_path)


HERE = [path for path in GRIDS if path.stem != "gpu"]  # which fetches weights, and needs a GPU


@pytest.fixture(scope="module")
def faces() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """uint8 (56, 64, 64, 3) and int64 (56,)."""
    toy = toy_images(56)
    return toy.images, np.array([EMOTIONS.index(label) for label in toy.labels])


@pytest.mark.slow
@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_every_grid_trains_on_toy_faces(
    path: Path, faces: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
) -> None:
    """Each grid's own base, on 56 faces for one epoch: two trials, or all that differ in model."""
    torch.set_num_threads(1)
    settings = ["seeds=[0]", "trial.amp=none", "scheduler=none"]
    text = path.read_text(encoding="utf-8")
    axis_of_epochs = "epochs:" in text.partition("axes:")[2]
    settings.append("axes.epochs=[1]" if axis_of_epochs else "trial.epochs=1")
    if "warmup_epochs" in text:
        settings[-1] = "trial.epochs=3"
    num = 8 if path.stem == "models" else 2  # 8 networks, and each has to be seen
    images, labels = faces
    rows = np.arange(len(labels))
    for config in islice(configs_of(read_grid(path, overrides=settings)), num):
        sized = [look(png(as_picture(image)), Format.of(config)).pixels for image in images]
        data = TrainingData(
            torch.from_numpy(np.stack(sized)), labels, rows[::2], rows[1::2], EMOTIONS
        )
        outcome = train(config, data, torch.device("cpu"), Collective(), lambda row, state: None)
        assert len(outcome.epochs) == config.epochs
        assert np.isfinite(outcome.best_probs).all()
