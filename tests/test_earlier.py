"""Earlier results are taken up only by a raylab that means the same by their configs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest

from raylab.after.alone import only
from raylab.after.earlier import check_same_data, config_of, images_of, read_sweep
from raylab.config.grid import read_grid
from raylab.config.sweep import Search, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.source import Source, scan
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, record_from
from raylab.sweep.plan import Plan, reusable_records

SWEEP = SweepConfig(
    name="s", data="toy:num=140", trial={"model": "cnn", "augment": {"flip": 1 / 3}}
)


@pytest.fixture
def another_default() -> Iterator[Callable[[], None]]:
    """Makes this a raylab to come, which smooths labels unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:

        def change() -> None:
            patch.setattr(TrialConfig.model_fields["label_smoothing"], "default", 0.1)
            TrialConfig.model_rebuild(force=True)

        yield change
    TrialConfig.model_rebuild(force=True)
    assert TrialConfig().label_smoothing == 0.0


def finished(config: TrialConfig, data_fingerprint: str = "data") -> Record:
    epochs = [{"epoch": 1, "val_accuracy": 0.5}]
    return record_from(config, data_fingerprint, "split", epochs, "complete")


def test_a_trial_whose_default_has_changed_since_is_not_reused(
    tmp_path: Path, another_default: Callable[[], None]
) -> None:
    results = ResultsDirectory(tmp_path)
    plan = Plan(SWEEP, scan(SWEEP.data))
    (before,) = plan.configs()
    results.add(finished(before, plan.source.fingerprint))
    known = reusable_records(SWEEP, results)[plan.identify(before)]
    assert (known.val_accuracy, known.epochs, known.trial) == (0.5, (), {})  # there may be many
    another_default()
    (after,) = plan.configs()
    assert after.label_smoothing == 0.1
    assert plan.identify(after) not in reusable_records(SWEEP, results)
    said = SWEEP.model_copy(update={"trial": {**SWEEP.trial, "label_smoothing": 0.0}})
    (as_before,) = Plan(said, plan.source).configs()
    assert plan.identify(as_before) in reusable_records(said, results)


def test_a_record_gives_its_config_back_to_the_last_digit(tmp_path: Path) -> None:
    (config,) = Plan(SWEEP, scan(SWEEP.data)).configs()
    results = ResultsDirectory(tmp_path)
    results.add(finished(config))
    (record,) = ResultsDirectory(tmp_path).records()
    assert config_of(record) == config


def test_a_config_that_means_another_trial_now_is_refused() -> None:
    record = finished(TrialConfig())
    renamed = {**record.trial, "label_smoothing": 0.1}
    unknown = {**record.trial, "smoothing": 0.1}
    for trial in (renamed, unknown, {}):
        with pytest.raises(Refused, match="default has changed") as refused:
            config_of(replace(record, trial=trial))
        assert refused.value.exit_code == 2


def test_other_labels_are_other_data() -> None:
    source = scan("toy:num=140")
    check_same_data(source, [finished(TrialConfig(), source.fingerprint)], "the sweep")
    other = scan("toy:num=140,wrong=0.2")
    with pytest.raises(Refused, match=source.fingerprint):
        check_same_data(other, [finished(TrialConfig(), source.fingerprint)], "the sweep")


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[..., Source]:
    """Scans a manifest of the same faces, of which `num` have their label moved on by one, less
    the first few.
    """
    write_folder(tmp_path / "faces", num=28, wrong=0.0, seed=0)
    paths = sorted((tmp_path / "faces").rglob("*.png"))
    names = [path.parent.name for path in paths]

    def write(name: str, num: int, without: int = 0) -> Source:
        labels = names[-num:] + names[:-num] if num else names
        rows = [f"{path},{label}" for path, label in zip(paths, labels, strict=True)]
        (tmp_path / name).write_text("\n".join(["path,label", *rows[without:]]))
        return scan(str(tmp_path / name))

    return write


def test_labels_are_those_of_the_data_at_hand_whatever_sweep_began_last(
    tmp_path: Path, labelled: Callable[..., Source]
) -> None:
    first, last = labelled("first.csv", 0), labelled("last.csv", 4)
    results = ResultsDirectory(tmp_path)
    status = ["ok"] * (last.num_images - 1) + ["cannot be decoded"]
    results.write_images(last.table.append_column("status", [status]))
    images = images_of(results, first, "nothing was trained")
    table = first.table.filter(pc.not_equal(first.table["sha256"], last.table["sha256"][-1]))
    assert images.image_ids == table["image_id"].to_pylist()
    assert [images.classes[k] for k in images.labels] == table["label"].to_pylist()
    assert (images.fingerprint, images.soft_labels) == (first.fingerprint, None)


def test_images_that_the_last_sweep_did_not_see_are_refused(
    tmp_path: Path, labelled: Callable[..., Source]
) -> None:
    cleaned = labelled("cleaned.csv", 0, without=2).table
    results = ResultsDirectory(tmp_path)
    results.write_images(cleaned.append_column("status", [["ok"] * cleaned.num_rows]))
    with pytest.raises(Refused, match=r"images\.parquet  lacks 2 of the 28 images .* sweep. on"):
        images_of(results, labelled("first.csv", 0), "nothing was trained")


def test_without_a_grid_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"grid\.yaml"):
        read_sweep(ResultsDirectory(tmp_path))
    ResultsDirectory(tmp_path).write_grid(SWEEP.as_grid())
    assert read_sweep(ResultsDirectory(tmp_path)) == SWEEP


def test_files_that_only_other_trials_name_may_be_gone(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.parquet")
    levers = ({"drop_suspects": gone}, {"teacher": gone}, {"pretrained": f"{gone}.pth"})
    search = Search(kind="optuna", num_trials=4, warm_start=f"{tmp_path}/gone")
    for sweep in (
        SWEEP.model_copy(update={"levers": levers}),
        SWEEP.model_copy(update={"axes": {"teacher": ("", gone)}, "search": search}),
    ):
        ResultsDirectory(tmp_path).write_grid(sweep.as_grid())
        assert read_sweep(ResultsDirectory(tmp_path)) == sweep
    with pytest.raises(Refused, match="does not exist"):
        read_grid(tmp_path / "grid.yaml")  # as anybody's


def test_a_problem_of_a_grid_behind_a_uri_is_told_there() -> None:
    results = ResultsDirectory("mock:///results")
    results.write_grid(SWEEP.as_grid() | {"data": "/no/faces"})
    with pytest.raises(Refused) as refused:
        read_sweep(results)
    (problem,) = refused.value.problems
    assert problem.place.startswith("mock:///results/grid.yaml:")
    assert str(refused.value).endswith("in mock:///results/grid.yaml; no trial was started.")


def test_the_grid_of_one_trial_is_read_though_it_says_what_only_others_use(tmp_path: Path) -> None:
    axes = {"loss": ("cross_entropy", "focal")}
    sweep = SWEEP.model_copy(update={"trial": {**SWEEP.trial, "focal_gamma": 3.0}, "axes": axes})
    plain, _ = Plan(sweep, scan(sweep.data)).configs()
    extended = only(sweep, plain, keep=1)
    ResultsDirectory(tmp_path).write_grid(extended.as_grid())
    assert read_sweep(ResultsDirectory(tmp_path)) == extended
    with pytest.raises(Refused, match="does nothing unless loss is focal"):
        read_grid(tmp_path / "grid.yaml")  # as anybody's
