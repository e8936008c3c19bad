"""The board: trials or families, which may be the best, and what the best is worth."""

import io
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_sweeps import simulate
from typer.testing import CliRunner

from raylab.analysis import comparison
from raylab.analysis.board import assess, show
from raylab.analysis.ensemble import show_ensemble
from raylab.analysis.evidence import gather
from raylab.analysis.families import by_family, clearly_worse
from raylab.cli import app
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import ranked, read, sweep_folders
from raylab.results.record import Record, record_from

N = 1_000


def write(
    place: Path,
    accuracies: Sequence[float],
    num_seeds: int,
    *,
    split: str = "split",
    start: int = 0,
    folds: int = 1,
    predictions: bool = True,
    data: str = "data",
) -> str:
    """A results directory with one config per accuracy, its lr counting from `start`."""
    results = ResultsDirectory(place)
    right = simulate(np.random.default_rng(start), accuracies, num_seeds, N)
    ids = np.array([f"{split}{i:05d}" for i in range(N)])
    for c, config in enumerate(right):
        for seed, trial in enumerate(config):
            for fold, part in enumerate(np.array_split(np.arange(N), folds)):
                options = {"folds": folds, "fold": fold} if folds > 1 else {}
                fields = TrialConfig(lr=(start + c + 1) / 1000, seed=seed, split=options)
                accuracy = float(trial[part].mean())
                epoch = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
                name = f"{split}{fold}" if folds > 1 else split
                record = record_from(fields, data, name, [epoch], "complete", num_val=len(part))
                results.add(record)
                if predictions:
                    probs = np.stack([trial[part], ~trial[part]], axis=1).astype(float)
                    labels = ["right"] * len(part)
                    results.write_predictions(
                        record.trial_id, list(ids[part]), labels, probs, ["right", "wrong"]
                    )
    results.flush()
    results.write_grid({"name": place.name})
    return results.location


def marks(*locations: str) -> pd.DataFrame:
    frame = ranked(read(locations))
    return assess(frame, sweep_folders(locations)).families.set_index("lr").sort_index()


def test_seeds_make_one_family_with_mean_and_spread(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.6], 3)
    families = by_family(read([place]))
    trials = read([place]).groupby("lr")["val_accuracy"]
    for lr, family in families.set_index("lr").iterrows():
        assert family["family_mean"] == pytest.approx(trials.mean()[lr])
        assert family["family_std"] == pytest.approx(trials.std()[lr])
        assert family["family_low"] < family["family_mean"] < family["family_high"]
    assert families["num_seeds"].tolist() == [3, 3]
    assert families["num_images"].tolist() == [N, N]
    assert families["status"].tolist() == ["3 complete"] * 2


def test_intervals_from_predictions_are_no_wider_than_those_without(tmp_path: Path) -> None:
    with_files = marks(write(tmp_path / "a", [0.65, 0.64, 0.6], 3))
    without = marks(write(tmp_path / "b", [0.65, 0.64, 0.6], 3, predictions=False))
    widths = [(f["family_high"] - f["family_low"]).mean() for f in (with_files, without)]
    assert widths[0] < widths[1]


def test_what_is_worse_is_told_from_what_may_be_the_best(tmp_path: Path) -> None:
    found = marks(write(tmp_path / "aug", [0.65, 0.65, 0.55, 0.3], 1))
    assert found["tied"].tolist() == ["yes", "yes", "no", "no"]
    assert found["corrected"].notna().sum() == 1
    assert found["corrected"].max() <= found["family_mean"].max()


def test_families_on_other_images_are_never_paired_and_it_is_said(tmp_path: Path) -> None:
    first = write(tmp_path / "aug", [0.65, 0.64], 1)
    other = write(tmp_path / "split", [0.5], 1, split="other", start=10)
    assert marks(first, other)["tied"].tolist() == ["yes", "yes", "?"]
    text = show([first, other])
    assert "tied ?: 1 of 3 validated other images than the best" in text
    assert "picked out of 2:" in text


def test_each_state_of_the_data_has_its_own_best_for_programs_too(tmp_path: Path) -> None:
    leaky = write(tmp_path / "leaky", [0.85, 0.75], 1, data="leaky")
    clean = write(tmp_path / "clean", [0.65, 0.55], 1, data="clean")  # of the same images
    rows = json.loads(show([leaky, clean], "json"))
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["tied"] for row in rows] == ["yes", "no", "yes", "no"]
    assert [row["corrected"] is None for row in rows] == [False, True, False, True]
    alone = json.loads(show([clean], "json"))
    assert [row | {"rank": 0} for row in rows[2:]] == [row | {"rank": 0} for row in alone]


def test_an_ensemble_takes_trials_of_the_best_ones_data_only(tmp_path: Path) -> None:
    leaky = write(tmp_path / "leaky", [0.85], 1, data="leaky")
    clean = write(tmp_path / "clean", [0.65, 0.55], 1, data="clean")
    with pytest.raises(Refused, match="1 trials have predictions of the best one's images"):
        show_ensemble([leaky, clean], 2)
    assert json.loads(show_ensemble([clean], 2, "json"))["num_candidates"] == 2


def test_over_folds_an_ensemble_is_of_configs_on_all_images_not_of_the_easiest_fold(
    tmp_path: Path,
) -> None:
    place = write(tmp_path / "cv", [0.7, 0.68, 0.66], 1, folds=4)
    answer = json.loads(show_ensemble([place], 3, "json"))
    assert (answer["num_candidates"], answer["num_images"], answer["num_folds"]) == (3, N, 4)
    text = show_ensemble([place], 3)
    assert "the 4 of its config and seed" in text
    means = by_family(read([place]))["family_mean"]
    assert f"{means.max():.4f}" in text.splitlines()[2]


def test_an_ensemble_of_some_folds_says_so_and_one_that_lacks_a_fold_is_not_in_it(
    tmp_path: Path,
) -> None:
    place = write(tmp_path / "cv", [0.7, 0.68, 0.66], 1, folds=4)
    results = ResultsDirectory(place)
    best, *_ = last = [r for r in results.records() if r.config["split.fold"] == 3]
    results.add(replace(best, status="failed"))
    results.flush()
    found = json.loads(show_ensemble([place], 3, "json"))
    assert (found["num_candidates"], found["num_images"]) == (2, N)
    assert "folds only" not in show_ensemble([place], 3)
    for record in last:
        results.add(replace(record, status="failed"))
    results.flush()
    assert "on 3 of 4 folds only" in show_ensemble([place], 3)


def test_what_was_stopped_early_is_not_compared_and_it_is_said(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.64, 0.63], 2)
    results = ResultsDirectory(place)
    first, second, third = (
        [r for r in results.records() if r.config["lr"] == lr] for lr in (0.001, 0.002, 0.003)
    )
    for record in (*third, second[1]):
        results.add(replace(record, status="pruned"))
    results.flush()
    families = marks(place)
    assert families["tied"].to_dict() == {0.001: "yes", 0.002: "?", 0.003: "?"}
    assert "tied ?: 2 of 3 were stopped early, or some of their seeds were" in show([place])
    results.add(replace(first[0], status="pruned"))
    results.flush()
    assert "picked by their accuracy: it is too high" in show([place])


def test_the_same_split_with_other_images_is_not_paired_either(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.64], 1)
    results = ResultsDirectory(place)
    trial_id = ranked(read([place]))["trial_id"].iloc[1]
    probs = np.eye(2)[[0, 0]]
    results.write_predictions(trial_id, ["x", "y"], ["right"] * 2, probs, ["right", "wrong"])
    assert sorted(marks(place)["tied"]) == ["?", "yes"]


def test_family_without_predictions_gets_no_mark(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.64, 0.63], 1)
    last, best = ranked(read([place]))["trial_id"].iloc[[2, 0]]
    (tmp_path / "aug" / "predictions" / f"{last}.parquet").unlink()
    assert marks(place)["tied"].isna().sum() == 1
    (tmp_path / "aug" / "predictions" / f"{best}.parquet").write_bytes(b"damaged")
    assert marks(place)["tied"].isna().all()
    assert "the best has no stored predictions" in show([place])


def test_no_more_files_are_read_than_the_best_families_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_FAMILIES", 3)
    place = write(tmp_path / "aug", [0.65] * 5 + [0.3], 1)
    found = marks(place)
    assert found["tied"].notna().sum() == 4
    assert found["tied"].iloc[5] == "no"
    assert "picked out of 6 (3 could be paired, so rather too high): 0." in show([place])
    assert "tied blank: 2 more were not read; only the best are compared" in show([place])
    compared = assess(ranked(read([place])), sweep_folders([place]))
    assert (compared.num_rivals, compared.is_cut) == (6, True)


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_a_seed_far_off_is_named_and_leaves_the_winner_alone(
    tmp_path: Path, num_seeds: int
) -> None:
    place = write(tmp_path / "aug", [0.75, 0.74, 0.7, 0.65], num_seeds)
    results = ResultsDirectory(place)
    (worst,) = (r for r in results.records() if (r.config["lr"], r.config["seed"]) == (0.004, 0))
    reach(results, [worst], 0.14)
    found = marks(place)
    best = found.loc[found["family_mean"].idxmax()]
    assert best["corrected"] == pytest.approx(best["family_mean"], abs=0.02)
    assert best["family_high"] - best["family_low"] < 0.08
    assert f"which is judged apart: {worst.trial_id} (0.1400)" in show([place])


def reach(results: ResultsDirectory, records: Sequence[Record], accuracy: float) -> None:
    """Those trials were right on that share of their images."""
    for record in records:
        ids = results.predictions(record.trial_id)["image_id"].to_pylist()
        right = np.arange(len(ids)) < accuracy * len(ids)
        epoch = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0}
        results.add(replace(record, val_accuracy=accuracy, epochs=[epoch]))
        probs = np.stack([right, ~right], axis=1).astype(float)
        labels = ["right"] * len(ids)
        results.write_predictions(record.trial_id, ids, labels, probs, ["right", "wrong"])
    results.flush()


def test_a_trial_far_off_on_its_fold_is_named_and_not_that_of_the_fold_hard_for_all(
    tmp_path: Path,
) -> None:
    place = write(tmp_path / "cv", [0.7, 0.7, 0.7, 0.7], 1, folds=4)
    results = ResultsDirectory(place)
    reach(results, [r for r in results.records() if r.config["split.fold"] == 3], 0.2)
    (worst,) = (
        r for r in results.records() if (r.config["lr"], r.config["split.fold"]) == (0.004, 0)
    )
    reach(results, [worst], 0.3)
    said = [line for line in show([place]).splitlines() if "apart" in line]
    text = "far off what other configs reach on its fold; its config is judged apart"
    assert said == [f"{text}: {worst.trial_id} (0.3000)"]


def test_every_board_says_that_the_best_epochs_luck_is_in_it(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone", [0.65], 1)
    unread = write(tmp_path / "unread", [0.65, 0.6], 1, predictions=False)
    for text in (show([alone]), show([unread]), show([unread], metric="val_loss")):
        assert "each is measured in its best epoch" in text


def test_the_screen_asks_for_more_where_two_seeds_tell_the_luck() -> None:
    """4.8 standard errors apart, which two degrees of freedom pass in one of 20 boards."""
    families = pd.DataFrame(
        {
            "family_mean": [0.80, 0.70],
            "family_std": [0.02, 0.02],
            **{"num_images": 10_000.0, "num_seeds": 2, "num_folds": 1, "num_trials": 2},
        }
    )
    assert not clearly_worse(families, 0.001).any()
    assert clearly_worse(families.assign(num_seeds=20), 0.001).tolist() == [False, True]


def test_folds_do_not_pass_for_seeds_in_the_screen() -> None:
    families = pd.DataFrame(
        {
            "family_mean": [0.80, 0.65],
            "family_std": [0.06, 0.06],
            **{"num_images": 10_000.0, "num_seeds": 3, "num_folds": 10, "num_trials": 30},
        }
    )
    assert not clearly_worse(families, 0.001).any()


def test_the_screen_leaves_out_nobody_whose_luck_only_folds_tell() -> None:
    families = pd.DataFrame(
        {
            "family_mean": [0.80, 0.74],
            "family_std": np.nan,
            **{"num_images": 10_000.0, "num_seeds": 1, "num_folds": 1},
        }
    )
    assert clearly_worse(families, 0.001).tolist() == [False, True]
    for folds in ([5, 5], [5, 1], [1, 5]):
        assert not clearly_worse(families.assign(num_folds=folds), 0.001).any()


HARD_LAST = (0.7, 0.68, 0.66, 0.4)


def in_folds(place: Path, lacking: Collection[tuple[float, int, int]], seeds: int = 1) -> str:
    """Equal configs of lr 0.1, 0.2, 0.3 on folds of which the last one is hard for all; `lacking`:
    (lr, seed, fold) of the trials that never ran.
    """
    results, rng = ResultsDirectory(place), np.random.default_rng(0)
    for lr in (0.1, 0.2, 0.3):
        for seed in range(seeds):
            for fold, share in enumerate(HARD_LAST):
                accuracy = float((rng.random(400) < share).mean())
                epoch = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
                split = {"folds": len(HARD_LAST), "fold": fold}
                fields = TrialConfig(lr=lr, seed=seed, split=split)
                if (lr, seed, fold) not in lacking:
                    results.add(
                        record_from(fields, "d", f"f{fold}", [epoch], "complete", num_val=400)
                    )
    results.flush()
    results.write_grid({"name": place.name})
    return results.location


def test_a_family_that_lacks_the_hard_fold_ranks_last_and_it_is_said(tmp_path: Path) -> None:
    place = in_folds(tmp_path / "r", {(0.2, 0, 3)})
    families = by_family(read([place]))
    assert families["lr"].iloc[-1] == 0.2
    assert families["family_mean"].idxmax() == 2
    assert by_family(read([place]), "val_loss")["lr"].iloc[-1] == 0.2
    assert "1 of 3 lack a fold" in show([place])
    assert gather(ResultsDirectory(place)).best_family["lr"].iloc[0] != 0.2


def test_a_seed_that_lacks_the_hard_fold_moves_neither_mean_nor_spread(tmp_path: Path) -> None:
    whole = by_family(read([in_folds(tmp_path / "a", (), 3)])).set_index("lr")
    found = by_family(read([in_folds(tmp_path / "b", {(0.2, 2, 3)}, 3)])).set_index("lr")
    assert found["family_mean"][0.2] == pytest.approx(whole["family_mean"][0.2], abs=0.02)
    assert found["family_std"][0.2] < 0.04
    assert found["family_mean"][0.1] == whole["family_mean"][0.1]


def test_folds_are_one_family_over_all_images(tmp_path: Path) -> None:
    place = write(tmp_path / "cv", [0.65, 0.55], 1, folds=4)
    found = marks(place)
    assert found["num_folds"].tolist() == [4, 4]
    assert found["num_images"].tolist() == [N, N]
    assert found["tied"].tolist() == ["yes", "no"]
    assert "folds" in show([place]).splitlines()[0]


def test_eyes_see_families_where_there_are_seeds_and_trials_where_there_are_none(
    tmp_path: Path,
) -> None:
    single = write(tmp_path / "single", [0.65, 0.55], 1)
    seeds = write(tmp_path / "seeds", [0.65, 0.55], 3)
    assert "one seed each: the luck of the seed is in no interval" in show([single])
    assert "val_accuracy [95 %]" in show([single])
    assert "mean accuracy [95 %]" in show([seeds])
    assert "luck of the seed" not in show([seeds])
    assert len(show([seeds], families=False).splitlines()) == 2 + 6
    assert "mean accuracy [95 %]" in show([single], families=True)
    assert "best 0." in show([seeds], "markdown", top=1)


def test_programs_get_trials_with_what_is_known_of_their_family(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.55], 3)
    rows = json.loads(show([place], "json"))
    assert len(rows) == 6
    assert set(read([place]).columns) <= set(rows[0])
    assert {row["tied"] for row in rows if row["lr"] == 0.001} == {"yes"}
    assert {row["tied"] for row in rows if row["lr"] == 0.002} == {"no"}
    assert rows[0]["corrected"] is not None
    assert rows[-1]["corrected"] is None
    families = pd.read_csv(io.StringIO(show([place], "csv", families=True)))
    assert families["num_seeds"].tolist() == [3, 3]


def test_other_measures_rank_families_and_get_no_marks(tmp_path: Path) -> None:
    text = show([write(tmp_path / "aug", [0.55, 0.65], 3)], metric="val_loss")
    assert text.splitlines()[2].split()[:2] == ["1", "0.002"]
    assert text.endswith("ranked by val_loss: ties are told for val_accuracy only")


def test_failed_and_pruned_trials_do_not_speak_for_a_family_with_complete_ones(
    tmp_path: Path,
) -> None:
    results = ResultsDirectory(tmp_path)
    for seed, status in enumerate(("complete", "pruned", "failed")):
        epoch = {"epoch": 1, "val_accuracy": 0.5 + seed / 10, "val_loss": 1.0}
        config = TrialConfig(seed=seed)
        results.add(record_from(config, "data", "split", [epoch], status, num_val=100))  # type: ignore[arg-type]
    results.add(record_from(TrialConfig(lr=0.5), "data", "split", [], "failed", error_kind="nan"))
    families = by_family(read([str(tmp_path)]))
    assert families["family_mean"].iloc[0] == 0.5
    assert families["status"].tolist() == ["1 complete, 1 failed, 1 pruned", "failed"]
    assert np.isnan(families["family_mean"].iloc[1])
    assert "failed" in show([str(tmp_path)])


def test_board_of_failed_trials_is_shown(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    results.add(record_from(TrialConfig(), "data", "split", [], "failed", error_kind="nan"))
    assert "failed: nan" in show([str(tmp_path)])
    assert "failed" in show([str(tmp_path)], families=True)


def test_command_takes_families_or_trials(tmp_path: Path) -> None:
    place = write(tmp_path / "aug", [0.65, 0.55], 2)
    said = {
        flag: CliRunner().invoke(app, ["leaderboard", place, flag]).stdout
        for flag in ("--families", "--trials")
    }
    assert "mean accuracy" in said["--families"]
    assert len(said["--trials"].splitlines()) == 2 + 4


def test_a_seed_half_way_through_its_folds_opens_no_screen(tmp_path: Path) -> None:
    half = {(lr, 1, fold) for lr in (0.1, 0.2, 0.3) for fold in (2, 3)}
    families = by_family(read([in_folds(tmp_path / "r", half, 2)]))
    assert families["num_seeds"].tolist() == [1, 1, 1]
    apart = families.assign(family_mean=[0.8, 0.6, 0.6], num_images=10_000.0)
    assert not clearly_worse(apart, 0.001).any()


def test_folds_that_no_family_ran_are_not_told_to_be_lacking(tmp_path: Path) -> None:
    alone = {(lr, 0, fold) for lr in (0.1, 0.2, 0.3) for fold in (1, 2, 3)}
    assert "lack a fold" not in show([in_folds(tmp_path / "r", alone)])
