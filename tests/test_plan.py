"""What a sweep would run on its source, before anything starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from raylab.after.alone import only
from raylab.config.builder import FINISHED
from raylab.config.expand import assignments, config_from, replicas
from raylab.config.grid import read_grid
from raylab.config.identity import family_id
from raylab.config.sweep import Scheduler, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.events.tally import short_name
from raylab.forecast.overview import Question, overview
from raylab.images.source import Source, scan
from raylab.results.directory import ResultsDirectory
from raylab.results.outline import plan_text
from raylab.results.record import record_from
from raylab.sweep.plan import Plan, on_their_splits, stands


@pytest.fixture
def given(tmp_path: Path) -> Source:
    """A source that names its train and val images, two of them identical."""
    for side in ("train", "val"):
        for label in ("a", "b"):
            folder = tmp_path / "faces" / side / label
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"S{i}_{side}.png").write_bytes(f"{side}{label}{i}".encode())
    (tmp_path / "faces/val/a/S9_copy.png").write_bytes(b"traina0")
    return scan(str(tmp_path / "faces"))


def plan_of(folder: Path, source: Source, text: str) -> Plan:
    (folder / "grid.yaml").write_text(f"data: toy\n{text}\n")
    return Plan(read_grid(folder / "grid.yaml"), source)


def test_the_folds_of_a_config_are_trials_of_one_family(tmp_path: Path) -> None:
    source = scan("toy:num=100")
    plan = plan_of(tmp_path, source, "trial: {split: {folds: 5}}\naxes: {lr: [0.1, 0.2]}")
    configs = list(plan.configs())
    families = [family_id(config, source.fingerprint) for config in configs]
    assert len({plan.identify(config) for config in configs}) == plan.num_trials == 10
    assert [len(set(families[i : i + 5])) for i in (0, 5)] == [1, 1]
    assert len(set(families)) == 2
    assert [config.split.fold for config in configs] == [*range(5)] * 2


@pytest.mark.parametrize("search", ["grid", "{optuna: {num_trials: 2}}"])
def test_images_are_brought_to_size_as_the_weights_saw_them(tmp_path: Path, search: str) -> None:
    text = "trial: {pretrained: true}\naxes: {model: [resnet18, vgg19_bn]}\nsearch: " + search
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    assert [form.interpolation for form in plan.variants] == ["bicubic", "bilinear"]
    plain = plan_of(tmp_path, scan("toy:num=100"), "axes: {model: [resnet18, vgg19_bn]}")
    assert [form.interpolation for form in plain.variants] == ["bicubic"]


def test_optuna_may_choose_between_weights_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    text = "axes: {pretrained: [a.safetensors, b.safetensors]}\nsearch: {optuna: {num_trials: 2}}"
    plan = plan_of(tmp_path, scan("toy:num=100"), "trial: {model: cnn}\n" + text)
    assert len(plan.variants) == 1


def test_a_trial_from_before_the_filter_was_chosen_repeats_as_it_was(tmp_path: Path) -> None:
    source = scan("toy:num=100")
    plan = plan_of(tmp_path, source, "trial: {model: vgg19_bn, pretrained: true}")
    before = next(plan.configs()).model_copy(update={"interpolation": "auto"})
    (again,) = Plan(only(plan.sweep, before), source).configs()
    assert plan.identify(again) == plan.identify(before) != plan.identify(next(plan.configs()))


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_draw_counts_with_all_its_folds(tmp_path: Path, search: str) -> None:
    text = (
        "trial: {split: {folds: 4}}\naxes: {lr: {uniform: [0.1, 0.2]}}\nseeds: [0, 1]\n"
        f"search: {{{search}: {{num_trials: 3}}}}"
    )
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    assert plan.num_trials == 24
    assert "split.fold" in plan.fields


def test_the_plan_shows_folds_copies_and_groups(tmp_path: Path, given: Source) -> None:
    text = "trial: {split: {folds: 3, group_pattern: '/(S.)_'}}"
    results = ResultsDirectory(str(tmp_path / "results"))
    summary = overview(plan_of(tmp_path, given, text), Question(results))
    assert (summary["trials"], summary["folds"]) == (3, [3])
    lines = plan_text(summary).splitlines()
    assert "folds     3 for each config and seed (split.fold)" in lines
    told = "\n".join(lines)
    assert "1 contents stand in more than one given split" in told
    assert "4 groups over 13 of 13 images (split.group_pattern /(S.)_)" in told
    assert "3 groups stand in more than one given split" in told


def test_the_plan_says_what_leaves_nothing_out(tmp_path: Path) -> None:
    text = "axes: {lr: [0.1, 0.2]}\nexclude: [{lr: 0.1, seed: 0}, {lr: 0.3}]\nseeds: [0, 1]"
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    lines = plan_text(overview(plan, Question(ResultsDirectory(tmp_path / "r")))).splitlines()
    told = [line for line in lines if line.startswith("note")]
    assert told == ["note      exclude[1] leaves nothing out: no trial agrees with all of it"]


def test_the_plan_counts_different_draws(tmp_path: Path) -> None:
    text = "axes: {lr: [0.1, 0.2]}\nsearch: {random: {num_trials: 40}}\nseeds: [0, 1]"
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    assert plan.num_trials == len({plan.identify(config) for config in plan.configs()}) == 4
    found = plan.summary(ResultsDirectory(tmp_path / "r"))
    assert found["notes"] == ["num_trials 40: only 2 different configs were found in these axes"]


def notes_of(folder: Path, text: str) -> list[str]:
    plan = plan_of(folder, scan("toy:num=100"), text)
    return list(plan.summary(ResultsDirectory(folder / "r"))["notes"])


def test_small_shares_of_a_batch_are_told_where_batchnorm_learns_from_them(tmp_path: Path) -> None:
    group = "resources: {workers: 4}\ntrial: "
    (note,) = notes_of(tmp_path, group + "{batch_size: 32}")
    assert note.startswith("workers 4: 8 images of a batch each; a BatchNorm learns")
    assert notes_of(tmp_path, group + "{batch_size: 32}\naxes: {batch_size: [32, 64]}") == [note]
    for sound in (group + "{batch_size: 64}", "trial: {batch_size: 8}"):
        assert not notes_of(tmp_path, sound)
    assert not notes_of(tmp_path, group + "{batch_size: 32, freeze_bn: true}")


def test_classes_that_are_balanced_twice_are_told(tmp_path: Path) -> None:
    (note,) = notes_of(tmp_path, "trial: {sampler: balanced, class_weights: balanced}")
    assert note.startswith("sampler balanced and class_weights: both make up for classes of few")
    axis = "trial: {class_weights: effective}\naxes: {sampler: [shuffle, balanced]}"
    assert notes_of(tmp_path, axis) == [note]
    assert not notes_of(tmp_path, "levers: [{sampler: balanced}, {class_weights: balanced}]")


def test_a_warmup_that_reaches_into_the_averaged_epochs_is_told(tmp_path: Path) -> None:
    text = "trial: {epochs: 10, warmup_epochs: 5}\naxes: {swa_frac: [0.5, 0.75]}"
    (note,) = notes_of(tmp_path, text)
    assert note.startswith("warmup_epochs 5 and swa_frac 0.75: the last 8 of 10 epochs")
    assert not notes_of(tmp_path, text.replace("0.75", "0.25"))
    assert not notes_of(tmp_path, "levers: [{warmup_epochs: 0.5}, {swa_frac: 0.99}]")


def test_gpus_that_would_idle_are_told(tmp_path: Path) -> None:
    source, none = scan("toy:num=100"), ResultsDirectory(tmp_path / "r")
    told = [
        plan_of(tmp_path, source, f"resources: {{workers: 2, gpus: {gpus}}}").summary(none)["notes"]
        for gpus in (2, 4)
    ]
    assert told == [[], ["gpus 4: a worker trains on one GPU, the others idle; give workers 4"]]


def test_an_axis_that_the_source_overrules_is_refused(tmp_path: Path, given: Source) -> None:
    axes = "axes: {split.train: [0.7, 0.8], lr: [0.1, 0.2]}"
    with pytest.raises(Refused, match=r"axes\.split\.train  the source names its train, val"):
        plan_of(tmp_path, given, axes)
    assert plan_of(tmp_path, given, axes + "\ntrial: {split: {strategy: random}}").num_trials == 4
    assert plan_of(tmp_path, scan("toy:num=100"), axes).num_trials == 4


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("axes: {split.train: [0.7, 0.8]}\nexclude: [{lr: 3.0}]", "axes.split.train"),
        ("zip: [{split.seed: [0, 1], lr: [0.1, 0.2]}]", "zip[0].split.seed"),
        ("axes: {split: [{train: 0.7}, {train: 0.8}]}", "axes.split"),
        ("levers: [{lr: 0.1}, {split.train: 0.5}]", "levers[1].split.train"),
        ("levers: [{split: {seed: 3}}]", "levers[0].split"),
    ],
)
def test_whatever_moves_a_split_in_vain_is_refused(
    tmp_path: Path, given: Source, text: str, place: str
) -> None:
    with pytest.raises(Refused) as refused:
        plan_of(tmp_path, given, text)
    assert [problem.place for problem in refused.value.problems] == [place]
    assert "changes nothing" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "levers: [{split.strategy: stratified, split.train: 0.7}, {split.conflicts: keep}]",
        "axes: {split: [{train: 0.8}, {strategy: random}]}",
        "axes: {split.strategy: [given, random], split.train: [0.7, 0.8]}\n"
        "exclude: [{split.strategy: given, split.train: 0.7}]",
    ],
)
def test_what_moves_a_split_away_from_the_given_sides_is_not(
    tmp_path: Path, given: Source, text: str
) -> None:
    assert plan_of(tmp_path, given, text).num_trials == 3 - text.startswith("axes: {split:")


def test_what_the_scan_alone_can_tell_is_refused_at_once(tmp_path: Path) -> None:
    for i in range(40):
        folder = tmp_path / "faces" / ("few" if i < 3 else "ab"[i % 2])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"S0_{i}.png").write_bytes(f"{i}".encode())
    source = scan(str(tmp_path / "faces"))
    with pytest.raises(Refused, match="class 'few': 3 usable of 3 images; at least 5"):
        plan_of(tmp_path, source, "")
    one_person = "trial: {split: {strategy: group, group_pattern: ppm}}"
    with pytest.raises(Refused, match="no image left for"):
        plan_of(tmp_path, scan("toy:num=100"), one_person)


def test_the_plan_tells_sides_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(40)]
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(f"{i}".encode())
    (tmp_path / "faces.csv").write_text("\n".join(["path,label", *rows]))
    text = "axes: {split.train: [0.7, 0.8], split.seed: [0, 1]}"
    plan = plan_of(tmp_path, scan(str(tmp_path / "faces.csv")), text)
    told = plan_text(overview(plan, Question(ResultsDirectory(tmp_path / "r"))))
    assert "20 of 40 files are left out (the first: 20.png cannot be read: No such file" in told
    assert "split     stratified, train 0.7, val 0.2: train 14, val 4, test 2\n" in told
    assert "split     stratified: train 16, val 2, test 2\n" in told
    assert "4 splits in all" in told


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="matches none of 100 paths"):
        plan_of(tmp_path, scan("toy:num=100"), "trial: {split.group_pattern: 'S[0-9]{9}'}")


class Asked:
    """A config that remembers which of its fields were asked for."""

    def __init__(self, config: TrialConfig) -> None:
        self.config, self.names = config, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.config, name)


def test_what_finishes_a_config_is_the_same_for_trials_alike_in_few_fields(tmp_path: Path) -> None:
    """Trials of a grid that are alike in these fields are finished once for all of them."""
    (tmp_path / "x.parquet").write_bytes(b"x")
    text = (
        "axes: {lr: [0.1, 0.2], drop_suspects: ['', x.parquet], model: [resnet18, vgg19_bn], "
        "pretrained: [false, true], split.train: [0.7, 0.8]}\nseeds: [0, 1]"
    )
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    points = [run for point in assignments(plan.sweep) for run in replicas(plan.sweep, point)]
    asked = [Asked(config_from(plan.sweep, *point)) for point in points]
    finished = [plan.finish(cast(TrialConfig, each)) for each in asked]
    assert list(plan.configs()) == finished
    assert set().union(*(each.names for each in asked)) - {"model_copy"} <= FINISHED
    changed = {
        name
        for each, config in zip(asked, finished, strict=True)
        for name, value in config
        if value != getattr(each.config, name)
    }
    assert changed == {"split", "drop_suspects_digest", "interpolation"} <= FINISHED


def test_a_search_names_its_trials_by_fields_that_a_leaderboard_has(tmp_path: Path) -> None:
    text = (
        "axes: {augment.rotate_deg: {uniform: [0, 30]}, split.train: [0.7, 0.8]}\n"
        "zip: [{model: [cnn, resnet18], drop_rate: [0.1, 0.3]}]\n"
        "search: {optuna: {num_trials: 2}}"
    )
    plan = plan_of(tmp_path, scan("toy:num=100"), text)
    assert plan.fields == ("model", "drop_rate", "split.train", "augment")
    assert "augment=rotate_deg=" in short_name(
        TrialConfig(augment={"rotate_deg": 3.0}).flat(), plan.fields
    )


def test_a_record_stands_only_for_the_split_that_it_was_made_with() -> None:
    """Files that were renamed may change the groups that a pattern finds, and no fingerprint."""
    by_pattern = {"group_pattern": "S[0-9]+", "train": 0.7}
    records = {
        name: record_from(TrialConfig(split=split), "data", made_with, [], "complete")
        for name, split, made_with in (
            ("as before", by_pattern, "now"),
            ("otherwise", by_pattern, "then"),
            ("without a pattern", {}, "then"),
        )
    }
    kept = on_their_splits(records, lambda split: {"S[0-9]+": "now"}[split.group_pattern])
    assert set(kept) == {"as before", "without a pattern"}


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (Scheduler(), False),
        (Scheduler(kind="asha", grace_epochs=2, reduction_factor=3), True),
        (Scheduler(kind="asha", grace_epochs=3, reduction_factor=2), True),
        (Scheduler(kind="asha", grace_epochs=2, reduction_factor=2), False),
        (Scheduler(kind="asha", grace_epochs=10), False),
    ],
    ids=lambda given: str(given.rungs(20)) if isinstance(given, Scheduler) else "",
)
def test_a_pruned_trial_stands_only_where_the_scheduler_may_have_pruned_it(
    scheduler: Scheduler, expected: bool
) -> None:
    epochs = [{"epoch": n, "val_accuracy": n / 10} for n in range(1, 7)]
    record = record_from(TrialConfig(epochs=20), "data", "split", epochs, "pruned")
    assert stands(record, SweepConfig(name="s", data="toy", scheduler=scheduler)) is expected


def test_what_the_source_remarks_is_told_before_what_the_splits_do(tmp_path: Path) -> None:
    source = replace(scan("toy:num=100"), remarks=("no image in the folders contempt",))
    plan = plan_of(tmp_path, source, "trial: {model: cnn, split.group_pattern: '(.).ppm'}")
    told = plan.summary(ResultsDirectory(tmp_path / "r"))["remarks"]
    assert told[0] == "no image in the folders contempt"
    assert " groups over " in told[1]
