"""What Optuna knows before its first draw: earlier configs, where the axes allow them."""

from pathlib import Path

import pytest

from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.results.record import Record, record_from
from raylab.sweep.prior import earlier_points
from raylab.sweep.queue import OptunaProposer

SEARCH = """
name: drawn
data: toy
axes:
  lr: {loguniform: [1.0e-4, 1.0e-2]}
  augment: [none, {preset: light, rotate_deg: 10}]
zip: [{model: [cnn, resnet18], drop_rate: [0.1, 0.3]}]
search: {optuna: {num_trials: 6, warm_start: earlier}}
seeds: [0]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepConfig:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "drawn.yaml").write_text(SEARCH)
    return read_grid(tmp_path / "drawn.yaml")


def record_of(accuracy: float, **fields: object) -> Record:
    on_axes = {"lr": 1e-3, "augment": "none", "model": "cnn", "drop_rate": 0.1}
    config = TrialConfig.model_validate(on_axes | fields)
    epochs = [{"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "train_loss": 1.0}]
    return record_from(config, "data", "split", epochs, "complete")


def test_the_place_is_made_whole_and_written_as_it_was_read(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    assert sweep.search.warm_start == str(tmp_path / "earlier")
    options = {"num_trials": 6, "warm_start": str(tmp_path / "earlier")}
    assert sweep.as_grid()["search"] == {"optuna": options}


def test_families_become_points_with_the_mean_over_their_seeds(sweep: SweepConfig) -> None:
    light = {"preset": "light", "rotate_deg": 10}
    records = [
        record_of(0.5, seed=0, epochs=3),
        record_of(0.7, seed=1, epochs=3),
        record_of(0.65, augment=light, model="resnet18", drop_rate=0.3),
    ]
    points = earlier_points(sweep, records)
    assert points == [
        ({"lr": 1e-3, "augment": 1, "zip 0": 1}, pytest.approx(0.65)),
        ({"lr": 1e-3, "augment": 0, "zip 0": 0}, pytest.approx(0.6)),
    ]


@pytest.mark.parametrize(
    "fields",
    [{"lr": 0.1}, {"augment": "strong"}, {"model": "resnet18"}, {"drop_rate": 0.2}],
    ids=str,
)
def test_what_the_axes_do_not_allow_is_passed_over(
    sweep: SweepConfig, fields: dict[str, object]
) -> None:
    assert earlier_points(sweep, [record_of(0.9, **fields)]) == []


def test_optuna_draws_near_what_was_good_and_runs_as_many_trials_as_asked(
    sweep: SweepConfig,
) -> None:
    rates = [1e-4 * 1.26**i for i in range(20)]
    records = [record_of(0.9 if lr > 4e-3 else 0.3, lr=lr) for lr in rates]
    firsts = []
    for points in ([], earlier_points(sweep, records)):
        proposer = OptunaProposer(sweep, lambda config: config, 6, lambda drawn: None)
        assert proposer.learn(points) == len(points)
        drawn = [proposer.propose() for _ in range(7)]
        assert drawn[-1] is None
        firsts.append([config.lr for config in drawn if config is not None])
    assert len(firsts[1]) == 6
    assert sum(lr > 3e-3 for lr in firsts[1]) > sum(lr > 3e-3 for lr in firsts[0])


def test_only_optuna_learns_and_only_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(SEARCH)
    with pytest.raises(Refused, match="no results directory 'earlier'"):
        read_grid(tmp_path / "grid.yaml")
    (tmp_path / "earlier").mkdir()
    with pytest.raises(Refused, match="only optuna learns"):
        read_grid(
            tmp_path / "grid.yaml",
            overrides=["search={random: {num_trials: 2, warm_start: earlier}}"],
        )
