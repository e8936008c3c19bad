"""Which family is chosen: by the mean over its complete seeds, and told why."""

from pathlib import Path
from typing import Any

import pytest

from raylab.analysis.families import by_family
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.leaderboard import read
from raylab.results.record import Record, Status, record_from
from raylab.results.winners import ranked_families


def ended(
    accuracies: list[float],
    seed: int,
    status: Status = "complete",
    num_val: int = 100,
    **fields: Any,
) -> Record:
    config = TrialConfig.model_validate({"seed": seed, "epochs": 4, **fields})
    epochs = [
        {"epoch": n, "val_accuracy": a, "val_macro_f1": a, "val_loss": 1 - a, "train_loss": 0.1}
        for n, a in enumerate(accuracies, start=1)
    ]
    return record_from(config, "data", "split", epochs, status, num_val=num_val)


def test_the_best_mean_wins_not_the_best_trial() -> None:
    lucky = [ended([0.9], 0, lr=1e-2), ended([0.3], 1, lr=1e-2)]
    steady = [ended([0.7], 1, lr=1e-3), ended([0.7], 0, lr=1e-3)]
    first, second = ranked_families([*lucky, *steady], "val_accuracy")
    assert first.mean == pytest.approx(0.7)
    assert second.mean == pytest.approx(0.6)
    assert first.first.config["seed"] == 0
    assert first.reasons()["seeds"] == [0, 1]


def test_an_accuracy_over_folds_is_that_of_the_leaderboard(tmp_path: Path) -> None:
    first, second = ({"folds": 2, "fold": fold} for fold in (0, 1))
    records = [
        ended([0.9], 0, num_val=10, split=first),
        ended([0.5], 0, num_val=30, split=second),
        ended([0.8], 1, num_val=10, split=first),
    ]
    results = ResultsDirectory(tmp_path)
    for record in records:
        results.add(record)
    (family,) = ranked_families(records, "val_accuracy")
    assert family.mean == pytest.approx(0.6)  # seed 1 lacks the fold of the harder images
    board = by_family(read([results.location]))
    assert board["family_mean"].tolist() == pytest.approx([family.mean])


def over_folds(lr: float, accuracies: list[float | None]) -> list[Record]:
    """None: the fold failed."""
    return [
        ended(
            [] if accuracy is None else [accuracy],
            0,
            "failed" if accuracy is None else "complete",
            lr=lr,
            split={"folds": len(accuracies), "fold": fold},
        )
        for fold, accuracy in enumerate(accuracies)
    ]


def test_an_easy_fold_does_not_win_against_all_folds() -> None:
    whole = over_folds(1e-3, [0.76, 0.70, 0.68])
    easy, fair = over_folds(1e-2, [0.74, None, None]), over_folds(1e-4, [0.73, None, 0.71])
    ranked = ranked_families([*easy, *whole, *fair], "val_accuracy")
    assert [family.first.config["lr"] for family in ranked] == [1e-3, 1e-4, 1e-2]
    assert [family.num_lacking for family in ranked] == [0, 1, 2]
    (alone,) = ranked_families([ended([0.5], 0)], "val_accuracy")
    assert alone.num_lacking == 0


def test_a_loss_is_better_when_it_is_less() -> None:
    records = [ended([0.9], 0, lr=1e-2), ended([0.3], 0, lr=1e-3)]
    best = ranked_families(records, "val_loss")[0]
    assert best.first.config["lr"] == 1e-2


def test_only_complete_trials_speak_and_the_others_are_counted() -> None:
    records = [ended([0.5], 0), ended([0.9], 1, "pruned"), ended([], 2, "failed")]
    records.append(ended([0.99], 0, "pruned", lr=1e-2))
    (family,) = ranked_families(records, "val_accuracy")
    assert family.mean == 0.5
    assert family.reasons()["complete_trials"] == 1
    assert family.reasons()["recorded_trials"] == 3


def test_the_epochs_to_train_are_the_median_of_the_best_ones() -> None:
    curves = [[0.1, 0.5, 0.2, 0.1], [0.1, 0.2, 0.5, 0.1], [0.9, 0.1, 0.1, 0.1]]
    (family,) = ranked_families([ended(c, s) for s, c in enumerate(curves)], "val_accuracy")
    assert family.reasons()["best_epochs"] == [2, 3, 1]
    assert family.num_epochs == 2
