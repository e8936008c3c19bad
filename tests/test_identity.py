"""A trial's identity: what is learned and nothing else, for good."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.config.expand import config_from
from raylab.config.grid import read_grid
from raylab.config.identity import digest, family_id, trial_id
from raylab.config.trial import SplitConfig, TrialConfig

CHANGES: dict[str, Any] = {
    "model": "cnn",
    "pretrained": True,
    "pretrained_digest": "0123456789abcdef",
    "drop_rate": 0.5,
    "drop_path_rate": 0.1,
    "train_layers": ("layer4", "fc"),
    "freeze_bn": True,
    "unfreeze_epochs": 2,
    "image_size": 48,
    "channels": 1,
    "crop": "face",
    "interpolation": "bilinear",
    "split": {"seed": 1},
    "augment": "light",
    "mixup": 0.2,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "soft_labels": True,
    "drop_suspects": "suspects.parquet",
    "drop_suspects_digest": "0123456789abcdef",
    "teacher": "teacher.parquet",
    "teacher_digest": "0123456789abcdef",
    "teacher_weight": 0.9,
    "sampler": "proportional",
    "class_weights": "balanced",
    "effective_beta": 0.9,
    "loss": "focal",
    "focal_gamma": 1.0,
    "gce_q": 0.5,
    "batch_size": 64,
    "epochs": 21,
    "optimizer": "sgd",
    "lr": 1e-4,
    "layer_decay": 0.7,
    "head_lr_scale": 10.0,
    "sam_rho": 0.05,
    "weight_decay": 0.0,
    "momentum": 0.8,
    "lr_schedule": "step",
    "warmup_epochs": 1.5,
    "patience": 5,
    "ema_decay": 0.99,
    "swa_frac": 0.25,
    "tta": "flip",
    "amp": "none",
    "compile": True,
    "seed": 1,
}


TOGETHER = {key: value for key, value in CHANGES.items() if key != "swa_frac"}
"""Weights are averaged in one way."""


def test_the_changes_cover_every_field() -> None:
    assert set(CHANGES) == set(TrialConfig.model_fields)


def test_every_learned_field_changes_the_identity() -> None:
    ids = [trial_id(TrialConfig.model_validate({k: v}), "data") for k, v in CHANGES.items()]
    ids.append(trial_id(TrialConfig(), "data"))
    ids.append(trial_id(TrialConfig(), "other data"))
    assert len(set(ids)) == len(CHANGES) + 2


@pytest.mark.parametrize("strategy", ["auto", "stratified", "random", "group", "given"])
@pytest.mark.parametrize("train", [0.7, 0.8])
def test_every_part_of_the_split_changes_the_identity(strategy: str, train: float) -> None:
    config = TrialConfig.model_validate({"split": {"strategy": strategy, "train": train}})
    same = (strategy, train) == ("auto", 0.8)
    assert (trial_id(config, "data") == trial_id(TrialConfig(), "data")) == same


SPLIT_CHANGES: dict[str, Any] = {
    "train": {"train": 0.7},
    "val": {"val": 0.15},
    "test": {"test": 0.15},
    "strategy": {"strategy": "random"},
    "seed": {"seed": 1},
    "group_pattern": {"group_pattern": "S[0-9]+"},
    "folds": {"folds": 5},
    "fold": {"folds": 5, "fold": 2},
    "conflicts": {"conflicts": "keep"},
}


def test_every_field_of_the_split_changes_the_identity() -> None:
    assert set(SPLIT_CHANGES) == set(SplitConfig.model_fields)
    configs = [TrialConfig.model_validate({"split": split}) for split in SPLIT_CHANGES.values()]
    ids = {trial_id(config, "data") for config in (TrialConfig(), *configs)}
    assert len(ids) == len(SPLIT_CHANGES) + 1


def test_the_folds_of_a_config_are_one_family() -> None:
    folds = [TrialConfig.model_validate({"split": {"folds": 5, "fold": k}}) for k in range(5)]
    assert len({trial_id(config, "data") for config in folds}) == 5
    assert len({family_id(config, "data") for config in folds}) == 1
    assert family_id(folds[0], "data") != family_id(TrialConfig(), "data")


def test_one_fold_is_no_fold() -> None:
    assert SplitConfig(folds=1) == SplitConfig()


def test_the_family_forgets_the_seed_only() -> None:
    families = {
        key: family_id(TrialConfig.model_validate({key: value}), "data")
        for key, value in CHANGES.items()
    }
    assert families.pop("seed") == family_id(TrialConfig(), "data")
    assert len({*families.values(), family_id(TrialConfig(), "data")}) == len(CHANGES)


@given(st.permutations(list(TOGETHER)))
def test_key_order_is_moot(keys: list[str]) -> None:
    config = TrialConfig.model_validate({key: TOGETHER[key] for key in keys})
    assert trial_id(config, "data") == trial_id(TrialConfig.model_validate(TOGETHER), "data")


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.booleans(), max_size=5))
def test_digest_is_independent_of_order(values: dict[str, Any]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))
    assert len(digest(values)) == 12


def test_a_config_written_and_read_again_keeps_its_identity() -> None:
    config = TrialConfig.model_validate(TOGETHER)
    again = TrialConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert trial_id(again, "data") == trial_id(config, "data")


def test_bicubic_is_what_auto_says() -> None:
    assert trial_id(TrialConfig(interpolation="bicubic"), "d") == trial_id(TrialConfig(), "d")


def test_the_same_thing_said_otherwise_is_the_same_trial() -> None:
    said = [
        {"augment": "light", "lr": 1},
        {"augment": {"preset": "light"}, "lr": 1.0},
        {"augment": {"flip": 0.5, "rotate_deg": 5, "jitter": 0.1}, "lr": 1},
        {"augment": {"preset": "erase", "erase": 0}, "lr": 1, "split": {"train": 0.8}},
    ]
    assert len({trial_id(TrialConfig.model_validate(given), "data") for given in said}) == 1


def test_a_file_is_the_same_one_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grids" / "sub").mkdir(parents=True)
    (tmp_path / "earlier").mkdir()
    (tmp_path / "w.pth").write_bytes(b"")
    (tmp_path / "grids" / "grid.yaml").write_text(
        "data: toy\ntrial: {pretrained: ../w.pth}\naxes: {lr: {uniform: [0.1, 0.2]}}\n"
        "search: {optuna: {num_trials: 1, warm_start: ../earlier}}\n"
    )
    told = []
    for folder, path in ((tmp_path, "grids/grid.yaml"), (tmp_path / "grids/sub", "../grid.yaml")):
        monkeypatch.chdir(folder)
        sweep = read_grid(Path(path))
        assert sweep.search.warm_start == str(tmp_path / "earlier")
        told.append(config_from(sweep, {}, 0))
    assert told[0].pretrained == str(tmp_path / "w.pth")
    assert trial_id(told[0], "data") == trial_id(told[1], "data")


def test_pinned_identities() -> None:
    # A change here means that no earlier result is found again: raise LEARNING_VERSION knowingly.
    assert trial_id(TrialConfig(), "0123456789ab") == "0ef2338de731"
    assert family_id(TrialConfig(), "0123456789ab") == "841da30d61c9"
    later = {"compile", "crop", "interpolation", "teacher", "teacher_digest", "teacher_weight"}
    older = {key: value for key, value in TOGETHER.items() if key not in later}
    assert trial_id(TrialConfig.model_validate(older), "0123456789ab") == "6feee9d653cc"


def test_only_what_means_another_training_today_has_another_id() -> None:
    def augmented(size: int = 64, **augment: Any) -> str:
        return trial_id(TrialConfig(image_size=size, augment=augment), "0123456789ab")

    assert augmented(crop_scale=0.75) == "15c14c769090"
    assert augmented(size=32, trivial=True) == "01994f589dcc"
    assert augmented(crop_scale=0.8) != "f3e0118a5ab2"
    assert augmented(trivial=True) != "a0627ba55d3b"
