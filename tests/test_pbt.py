"""A population on a real local Ray: children begin with their parents' weights; resumes agree."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from raylab.after.final import FinalOptions, run_final
from raylab.after.rerun import RerunOptions, run_rerun
from raylab.cli import app
from raylab.config.files import parent_of
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.source import scan
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record
from raylab.sweep.parents import begun
from raylab.sweep.plan import Plan
from raylab.sweep.raised import failure_of
from raylab.sweep.runner import Options, Outcomes, run_sweep

# Steps too small to change a prediction: a child says what its parent said.
GRID = """
name: bred
data: faces
trial: {model: cnn, image_size: 16, channels: 1, epochs: 1, batch_size: 32, amp: none,
        freeze_bn: true, split: {train: 0.6, val: 0.3}}
axes: {lr: {loguniform: [1.0e-9, 1.0e-8]}}
search: {pbt: {population: 4, generations: 2}}
keep: 1
"""


@pytest.fixture(scope="module")
def place(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with toy faces, a cache, and the results of a population that was stopped in its
    second generation and taken up again; kept.json says which weights there were in between.
    """
    place = tmp_path_factory.mktemp("bred")
    write_folder(place / "faces", num=140, wrong=0.0, seed=0)
    (place / "grid.yaml").write_text(GRID, encoding="utf-8")
    os.environ["RAYLAB_CACHE"] = str(place / "cache")
    stopped = sweep(place, "budget.trials=5", "resources.max_concurrent=1")
    assert len(stopped.records) == 5
    kept = sorted(ResultsDirectory(place / "results").checkpoint_ids())
    (place / "kept.json").write_text(json.dumps([sorted(records(place)), kept]))
    outcomes = sweep(place)
    assert (outcomes.exit_code, len(outcomes.records)) == (0, 8)
    yield place
    del os.environ["RAYLAB_CACHE"]


def sweep(place: Path, *overrides: str, **options: bool) -> Outcomes:
    chosen = Options(str(place / "results"), quiet=True, **options)
    return run_sweep(read_grid(place / "grid.yaml", overrides=overrides), chosen)


def records(place: Path) -> dict[str, Record]:
    return {record.trial_id: record for record in ResultsDirectory(place / "results").records()}


def parents(known: dict[str, Record]) -> dict[str, str]:
    found = {name: parent_of(str(record.config["pretrained"])) for name, record in known.items()}
    return {name: parent for name, parent in found.items() if parent is not None}


def test_children_begin_with_their_parents_weights(place: Path) -> None:
    known, results = records(place), ResultsDirectory(place / "results")
    assert [record.status for record in known.values()] == ["complete"] * 8
    assert len(parents(known)) == 4
    for child, parent in parents(known).items():
        said, then = (results.predictions(name).to_pandas() for name in (child, parent))
        assert list(said["image_id"]) == list(then["image_id"])
        difference = said.filter(like="p_").to_numpy() - then.filter(like="p_").to_numpy()
        assert np.abs(difference).max() < 1e-5
    first = sorted(set(known) - set(parents(known)))
    one, other = (results.predictions(name).to_pandas().filter(like="p_") for name in first[:2])
    assert np.abs(one.to_numpy() - other.to_numpy()).max() > 1e-3  # unlike each other


def test_the_best_and_its_parent_are_kept_under_their_names(place: Path) -> None:
    results = ResultsDirectory(place / "results")
    ranked = sorted(records(place).values(), key=lambda r: (-(r.val_accuracy or 0), r.trial_id))
    best = ranked[0].trial_id
    parent = parents(records(place)).get(best)
    assert results.checkpoint_ids() == {best, parent} - {None}
    model = json.loads((place / "results" / "checkpoints" / best / "model.json").read_text())
    assert model["config"]["pretrained"] == (f"trial:{parent}" if parent else False)


def test_the_same_command_again_runs_nothing(place: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (place / "results/records").iterdir()}
    assert len(sweep(place).records) == 8
    after = {path: path.stat().st_mtime_ns for path in (place / "results/records").iterdir()}
    assert after == stamps
    plan = ["plan", str(place / "grid.yaml"), "--results", str(place / "results"), "--json"]
    found = json.loads(CliRunner().invoke(app, plan).stdout)
    counts = {name: found[name] for name in ("trials", "done", "to_run", "epochs")}
    assert counts == {"trials": 8, "done": 8, "to_run": 0, "epochs": 8}
    assert len(found["rows"]) == 8


def test_results_of_a_population_can_be_looked_at(place: Path) -> None:
    for verb in ("leaderboard", "diagnose", "report"):
        done = CliRunner().invoke(app, [verb, str(place / "results")])
        assert done.exit_code == 0, done.output
    board = pd.read_parquet(place / "results" / "leaderboard.parquet")
    assert board["pretrained"].str.fullmatch("false|trial:[0-9a-f]{12}").all()


def test_a_lost_generation_is_decided_again_as_it_was(place: Path) -> None:
    known = records(place)
    first = {name: known[name] for name in known.keys() - parents(known).keys()}
    sweep = read_grid(place / "grid.yaml")
    plan = Plan(sweep, scan(sweep.data))
    assert {plan.identify(config) for config in plan.configs(first)} == known.keys()


def test_what_a_stopped_generation_still_needed_was_kept(place: Path) -> None:
    before, kept = json.loads((place / "kept.json").read_text())
    left = {parent for child, parent in parents(records(place)).items() if child not in before}
    assert left <= set(kept)


def test_a_child_without_its_parents_weights_is_refused_in_one_sentence(place: Path) -> None:
    known, results = parents(records(place)), ResultsDirectory(place / "results")
    child = next(child for child, parent in known.items() if parent not in results.checkpoint_ids())
    with pytest.raises(Refused, match=r"began with the weights of trial .* no longer"):
        run_rerun(RerunOptions(str(place / "results"), child, quiet=True))
    with pytest.raises(CannotFinish, match="generation 3 begins with the weights of trial"):
        sweep(place, "search.pbt.generations=3")
    with pytest.raises(Refused, match=rf"keeps no weights of {known[child]} \(kept: "):
        sweep(place, "search=grid", "axes={}", f"trial.pretrained=trial:{known[child]}")
    named = TrialConfig(pretrained=f"trial:{known[child]}")
    with (
        pytest.raises(ValueError, match=r"the weights of trial .* are not in") as caught,
        begun(named, results.location),
    ):
        pass
    assert failure_of(caught.value).kind == "weights"


def test_a_child_of_another_split_than_its_parent_does_not_start(
    place: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(place / "results", tmp_path / "results"))
    parent = max(ResultsDirectory(results).checkpoint_ids())
    wanted = ["search=grid", "axes={}", f"trial.pretrained=trial:{parent}", "trial.split.seed=1"]
    with pytest.raises(Refused, match=rf"trial {parent} trained on \d+ images .* held out here"):
        run_sweep(read_grid(place / "grid.yaml", overrides=wanted), Options(str(results)))


@pytest.mark.slow
def test_the_winner_is_repeated_and_retrained_from_its_parent(place: Path) -> None:
    known, results = parents(records(place)), ResultsDirectory(place / "results")
    best = next(child for child, parent in known.items() if parent in results.checkpoint_ids())
    again = run_rerun(RerunOptions(str(place / "results"), best, quiet=True))
    assert again.verdict == "same"
    report = run_final(FinalOptions(str(place / "results"), quiet=True))
    assert report["models"][0]["config"]["pretrained"] == f"trial:{known[best]}"
