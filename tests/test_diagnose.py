"""`raylab diagnose` on results whose truth was planted: each planted thing is named, no other."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from planted import (
    add_trial,
    curve,
    empty_results,
    given_labels,
    model_probs,
    symmetric,
    write_images,
)
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from raylab.analysis.about_images import class_findings, image_findings
from raylab.analysis.diagnose import diagnose, diagnose_results
from raylab.analysis.evidence import gather
from raylab.analysis.next_grid import Wish, next_grid
from raylab.analysis.outofsample import OutOfSample
from raylab.analysis.zoom import zoomed
from raylab.cli import app
from raylab.config.grid import read_grid
from raylab.errors import Refused
from raylab.results.directory import ResultsDirectory

NUM = 1000
WRONG = 0.15
STRENGTHS = {"none": 0.0, "light": 0.6, 1e-3: 0.0, 1e-4: -0.8}


@pytest.fixture(scope="module")
def truth():
    """True labels, given labels, image ids of the validation images."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 7, NUM)
    labels = given_labels(rng, true, symmetric(WRONG))
    return true, labels, [f"{i:05d}" for i in range(NUM)]


@pytest.fixture(scope="module")
def results(truth, tmp_path_factory):
    """augment and lr are live, drop_rate is a dead wire; 20 validation images are copies."""
    true, labels, ids = truth
    axes = {"augment": ["none", "light"], "lr": [1e-3, 1e-4], "drop_rate": [0.0, 0.3]}
    found = empty_results(tmp_path_factory.mktemp("planted"), axes=axes, seeds=[0, 1])
    train = [f"t{i}" for i in range(50)]
    contents = [*ids, *ids[:20], *train[20:]]
    sides = ["val"] * NUM + ["train"] * 50
    write_images(found, ids + train, np.concatenate([labels, labels[:50]]), sides, contents)
    for augment in axes["augment"]:
        for lr in axes["lr"]:
            for seed in (0, 1):
                rng = np.random.default_rng([seed, len(augment), round(lr * 1e5)])
                strength = 3 + STRENGTHS[augment] + STRENGTHS[lr]
                probs = model_probs(rng, true, symmetric(WRONG), strength)
                accuracy = float((probs.argmax(1) == labels).mean())
                rows = curve(accuracy, 10, lambda rng=rng: rng.normal(0, 0.003))
                rows[-1]["val_accuracy"] = accuracy + 0.01
                for drop_rate in axes["drop_rate"]:
                    config = {"model": "cnn", "augment": augment, "lr": lr, "seed": seed}
                    config |= {"drop_rate": drop_rate, "epochs": 10}
                    add_trial(found, config, rows, predicted=(ids, labels, probs))
    found.flush()
    return found


@pytest.fixture(scope="module")
def diagnosis(results):
    return diagnose_results(results)


def about(diagnosis, topic):
    return [finding for finding in diagnosis.findings if finding.topic == topic]


def axis(diagnosis, name):
    found = [f for f in about(diagnosis, "axes") if f.evidence.get("axis") == name]
    assert len(found) == 1
    return found[0]


def test_the_dead_axis_is_named_and_the_live_ones_are_not(diagnosis):
    assert axis(diagnosis, "drop_rate").evidence["verdict"] == "dead"
    assert "dead wire" in axis(diagnosis, "drop_rate").sentence
    for name in ("augment", "lr"):
        assert axis(diagnosis, name).evidence["verdict"] == "matters"
        assert "dead" not in axis(diagnosis, name).sentence


def test_the_leak_is_named_with_its_size(diagnosis):
    (leak,) = about(diagnosis, "leaks")
    assert leak.severity == "problem"
    assert "20 of 1,000 validation images (2.0 %)" in leak.sentence
    assert set(leak.evidence["image_ids"]) == {f"{i:05d}" for i in range(20)}


def test_no_opinion_on_an_image_comes_from_a_model_that_trained_on_its_copy(results):
    seen = gather(results).opinion
    assert len(seen.image_ids) == NUM - 20
    assert not set(seen.image_ids) & {f"{i:05d}" for i in range(20)}


def test_noise_and_ceiling_are_those_planted(diagnosis, truth):
    true, labels, _ = truth
    ceiling = about(diagnosis, "labels")[0]
    planted = (true != labels).mean()
    assert ceiling.evidence["noise_rate"] == pytest.approx(planted, abs=0.03)
    assert ceiling.evidence["ceiling"] == pytest.approx(1 - planted, abs=0.02)
    assert "a perfect classifier would score" in ceiling.sentence


def test_suspects_are_written_and_are_the_wrong_labels(diagnosis, results, truth):
    true, labels, _ = truth
    table = results.suspects().to_pandas()
    rows = table["image_id"].astype(int).to_numpy()
    assert (true[rows] != labels[rows]).mean() > 0.9
    assert len(table) > 0.8 * (true != labels).sum()
    suspicion = diagnosis.quality.suspicion
    assert roc_auc_score((true != labels)[20:], suspicion) > 0.95
    assert table["path"].str.endswith(".png").all()


def test_images_that_nearly_every_trial_gets_wrong_are_counted(diagnosis, truth):
    true, labels, _ = truth
    (images,) = about(diagnosis, "images")
    assert images.evidence["num_nearly_always_wrong"] >= 0.8 * (true != labels)[20:].sum()


def test_next_grid_is_accepted_and_drops_the_dead_axis(diagnosis, results):
    ahead = read_grid(Path(results.path_of("next.yaml")))
    assert "drop_rate" not in ahead.axes
    assert ahead.trial["drop_rate"] == 0.0
    assert 1e-3 in ahead.axes["lr"]
    assert 1e-4 not in ahead.axes["lr"]
    assert diagnosis.next.num_trials > 0


def test_every_finding_has_a_sentence_and_evidence_in_jsons_own_types(results):
    done = CliRunner().invoke(app, ["diagnose", results.location, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {f["topic"] for f in found} >= {"leaks", "labels", "fit", "curve", "seeds", "axes"}
    assert all(f["sentence"].endswith((".", ".)")) for f in found)
    text = CliRunner().invoke(app, ["diagnose", results.location])
    assert "dead wire" in text.stdout
    assert "suspects.parquet" in text.stderr


def test_results_without_a_complete_trial_are_refused(tmp_path):
    results = ResultsDirectory(tmp_path)
    add_trial(results, {"model": "cnn"}, curve(0.5, 2, lambda: 0.0), "pruned")
    results.flush()
    with pytest.raises(Refused, match="none of its 1 trials is complete"):
        diagnose_results(results)


def test_results_without_predictions_images_or_grid_still_say_what_they_can(tmp_path):
    results = ResultsDirectory(tmp_path)
    for lr in (1e-3, 1e-4):
        add_trial(results, {"model": "cnn", "lr": lr}, curve(0.5 + lr, 3, lambda: 0.0))
    results.flush()
    found = diagnose(gather(results))
    assert found.suspects is None
    assert found.next is None
    assert "cannot be judged" in about(found, "labels")[0].sentence


def test_pruned_trials_are_counted_and_compared_where_all_still_ran(tmp_path):
    results = empty_results(tmp_path, axes={"lr": [1e-3, 1e-4]}, scheduler={"asha": {}})
    for seed in range(4):
        add_trial(results, {"lr": 1e-3, "seed": seed}, curve(0.7, 8, lambda: 0.0))
        add_trial(results, {"lr": 1e-4, "seed": seed}, curve(0.6, 2, lambda: 0.0), "pruned")
    results.flush()
    found = diagnose(gather(results))
    assert any("4 of 8 trials were stopped early" in f.sentence for f in found.findings)
    (effect,) = axis(found, "lr").evidence["effects"]
    assert abs(effect["effect"]) == pytest.approx(0.1)
    assert effect["num_pairs"] == 4
    (seeds,) = about(found, "seeds")
    assert "is not told" in seeds.sentence


def test_with_pruned_trials_the_luck_of_the_images_is_still_in_the_interval(tmp_path, truth):
    """Four pairs that agree to the last digit, all on the same 1,000 images."""
    true, labels, ids = truth
    results = empty_results(tmp_path, axes={"lr": [1e-3, 1e-4]}, scheduler={"asha": {}})
    for seed in range(4):
        for lr, num, status in ((1e-3, 8, "complete"), (1e-4, 2, "pruned")):
            rng = np.random.default_rng([seed, num])
            probs = model_probs(rng, true, symmetric(WRONG), 3)
            rows = curve(0.6 + 10 * lr, num, lambda: 0.0)
            add_trial(results, {"lr": lr, "seed": seed}, rows, status, (ids, labels, probs))
    results.flush()
    found = diagnose(gather(results))
    (effect,) = axis(found, "lr").evidence["effects"]
    low, high = effect["interval"]
    assert high - low > 0.02
    assert axis(found, "lr").evidence["verdict"] == "unclear"


def test_whether_a_model_of_mixed_images_fits_is_not_told(tmp_path):
    results = empty_results(tmp_path, axes={"drop_rate": [0.0, 0.3]})
    for drop_rate in (0.0, 0.3):
        rows = [row | {"train_accuracy": 0.45} for row in curve(0.6, 8, lambda: 0.0)]
        add_trial(results, {"cutmix": 1.0, "drop_rate": drop_rate}, rows)
    results.flush()
    found = diagnose_results(results)
    (fit,) = about(found, "fit")
    assert "cannot be told" in fit.sentence
    assert "underfits" not in results.folder.read_bytes("next.yaml").decode()


def test_a_drawn_search_gets_importances_and_its_range_narrowed(tmp_path):
    ranges = {"lr": {"loguniform": [1e-5, 1e-1]}, "drop_rate": {"uniform": [0.0, 0.5]}}
    search = {"random": {"num_trials": 40}}
    results = empty_results(tmp_path, axes=ranges, search=search)
    rng = np.random.default_rng(0)
    for _ in range(40):
        lr, drop_rate = float(10 ** rng.uniform(-5, -1)), float(rng.uniform(0, 0.5))
        accuracy = 0.7 - 0.05 * (np.log10(lr) + 3) ** 2
        rows = curve(accuracy, 6, lambda: rng.normal(0, 0.003))
        add_trial(results, {"lr": lr, "drop_rate": drop_rate}, rows)
    results.flush()
    found = diagnose_results(results)
    shares = about(found, "axes")[-1].evidence
    assert shares["lr"]["share"] > 0.8
    ahead = read_grid(Path(results.path_of("next.yaml")))
    assert 1e-5 < ahead.axes["lr"].low < 1e-3 < ahead.axes["lr"].high < 1e-1
    assert ahead.search.kind == "random"


def test_an_image_is_judged_only_by_trials_that_validated_it(tmp_path, truth):
    true, labels, ids = truth
    results = ResultsDirectory(tmp_path)
    halves = {"a": slice(0, 600), "b": slice(400, 1000)}
    for name, rows in halves.items():
        probs = model_probs(np.random.default_rng(0), true, symmetric(WRONG))[rows]
        fraction = {"a": 0.7, "b": 0.71}[name]
        config = {"split": {"train": fraction}}
        epochs = curve(0.7, 3, lambda: 0.0)
        add_trial(results, config, epochs, predicted=(ids[rows], labels[rows], probs), split=name)
    results.flush()
    seen = gather(results).all_opinions
    assert seen.num_trials.tolist() == [1] * 400 + [2] * 200 + [1] * 400
    assert seen.labels.tolist() == labels.tolist()


def configs_that_see(labels, *guesses):
    """One opinion per config on the same images of two classes."""
    ids = np.array([f"{i:05d}" for i in range(len(labels))])
    for guess in guesses:
        probs = np.where(np.eye(2)[guess] > 0, 0.8, 0.2)
        counts = np.full(len(ids), 9)
        yield OutOfSample(ids, labels, ("a", "b"), probs, counts, (guess != labels).astype(float))


@pytest.mark.parametrize(
    ("seeing", "told"),
    [
        (0, "None of the 4 configs reaches these"),
        (30, "One of the 4 configs is right on 30 of these"),
    ],
)
def test_what_one_config_reaches_is_not_said_to_be_out_of_reach(seeing, told):
    labels = np.zeros(100, dtype=np.int64)
    most, one = (np.arange(100) >= num for num in (40, 40 - seeing))
    configs = list(configs_that_see(labels, *[(~most).astype(int)] * 3, (~one).astype(int)))
    every = replace(configs[0], wrong_frac=np.where(most, 0.0, 0.9))
    (found,) = image_findings(SimpleNamespace(all_opinions=every, by_family=configs))
    assert "40 of 100 validation images" in found.sentence
    assert told in found.sentence


def test_swapped_labels_are_shares_of_what_carries_the_label():
    """50 of 1,000 that show a are labelled b: 5 % of what shows a, a third of what is called b."""
    true = np.repeat([0, 1], [1000, 100])
    labels = np.where(np.arange(1100) < 50, 1, true)
    guess = np.where(np.arange(1100) % 4 == 0, 1 - true, true)
    (seen,) = configs_that_see(labels, guess)
    quality = SimpleNamespace(fit=SimpleNamespace(true=np.eye(2)[true]), is_clear=True)
    (found,) = class_findings(SimpleNamespace(by_family=[seen], opinion=seen), quality)
    assert found.evidence["swapped_labels"] == pytest.approx([0.0, 1 / 3])
    assert "Up to 0.0 and 33.3 of these points are in the labels" in found.sentence


def test_no_more_is_swapped_than_is_confused():
    labels = np.repeat([0, 1], 100)
    (seen,) = configs_that_see(labels, np.where(np.arange(200) % 8 == 0, 1 - labels, labels))
    true = np.tile([0.6, 0.4], (200, 1))
    quality = SimpleNamespace(fit=SimpleNamespace(true=true), is_clear=True)
    (found,) = class_findings(SimpleNamespace(by_family=[seen], opinion=seen), quality)
    confused = [found.evidence["first_as_second"], found.evidence["second_as_first"]]
    assert found.evidence["swapped_labels"] == confused


def test_a_number_is_zoomed_between_its_neighbours_or_beyond_the_last():
    assert zoomed("lr", [1e-4, 1e-3, 1e-2], [1e-3]) == [0.00032, 1e-3, 0.0032]
    assert zoomed("lr", [1e-4, 1e-3], [1e-3]) == [0.00032, 1e-3, 0.01]
    assert zoomed("drop_rate", [0.0, 0.2], [0.0]) == [0.0, 0.1]
    assert zoomed("epochs", [5, 20], [20]) == [10, 20, 80]
    assert zoomed("seed", [1.0], [1.0]) == [1]


def test_a_zoomed_whole_number_keeps_the_step_of_those_around_it():
    assert zoomed("image_size", [64, 96], [96]) == [80, 96, 128]
    assert zoomed("image_size", [224, 518], [518]) == [364, 518, 812]  # patches of 14 fit
    assert zoomed("batch_size", [64, 128, 256], [256]) == [192, 256, 512]
    assert zoomed("batch_size", [64, 72], [64]) == [56, 64]  # no multiple of 8 lies between
    assert zoomed("epochs", [100, 345], [345]) == [220, 345, 590]


def test_values_that_are_not_clearly_worse_stay_inside_the_zoom():
    assert zoomed("lr", [1e-5, 1e-4, 1e-3], [1e-3, 1e-4]) == [3.2e-5, 1e-4, 1e-3, 0.01]
    assert zoomed("epochs", [5, 20], [20, 5]) == [1, 5, 20, 80]


def test_the_next_grid_asks_for_what_the_evidence_asks_for_once(tmp_path):
    grid = {"name": "g", "data": "toy", "axes": {"augment": ["none", "flip"]}}
    ahead = next_grid(grid, [], Wish(True, 10, True, True, True))
    (tmp_path / "next.yaml").write_text(ahead.text())
    read = read_grid(tmp_path / "next.yaml")
    assert read.axes["augment"] == ("none", "flip")
    assert read.trial["epochs"] == 30
    assert set(read.axes) == {"augment", "lr", "label_smoothing"}


def test_a_grid_without_axes_asks_something(tmp_path):
    ahead = next_grid({"name": "g", "data": "toy", "search": "grid"}, [], Wish())
    (tmp_path / "next.yaml").write_text(ahead.text())
    assert set(read_grid(tmp_path / "next.yaml").axes) == {"lr", "augment"}
