"""`raylab report`: the answer first, everything escaped, nothing fetched, unlike data apart."""

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import ExifTags, Image
from pyarrow import fs
from reported import CLASSES, add, results_of, usual, write_images
from typer.testing import CliRunner

from raylab import storage
from raylab.analysis import comparison
from raylab.analysis.predictions import TrialPredictions
from raylab.cli import app
from raylab.errors import Refused
from raylab.report.answer import _beside_best, answer
from raylab.report.axes import axes
from raylab.report.blocks import Chart
from raylab.report.calibration import NUM_BINS, reliability
from raylab.report.classes import confusion, recall, shares
from raylab.report.cost import busy_seconds, timed
from raylab.report.failures import causes
from raylab.report.figures import json_of, label
from raylab.report.images import images
from raylab.report.ladder import ladder, rungs
from raylab.report.markdown import markdown, plain
from raylab.report.material import read_parts
from raylab.report.page import page as html
from raylab.report.page import summary
from raylab.report.palette import DARK, INK, STEPS
from raylab.report.pictures import picture, thumbnail
from raylab.report.report import report
from raylab.report.wording import is_number

MAX_BYTES = 8 * 10**6
FEW = 90  # images: too few to estimate label noise, which takes seconds


class Seen(HTMLParser):
    """Every tag with its attributes, the text of the page, and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._open = (tag, dict(attrs))
        self.tags.append(self._open)

    def handle_endtag(self, tag):
        self._open = ("", {})

    def handle_data(self, data):
        if self._open[0] == "script":
            self.scripts.append((self._open[1], data))
        elif self._open[0] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def json(self) -> list[str]:
        return [text for attrs, text in self.scripts if attrs.get("type") == "application/json"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return usual(tmp_path_factory.mktemp("usual") / "results")


@pytest.fixture(scope="module")
def parts(results):
    return read_parts([results.location])


@pytest.fixture(scope="module")
def page(parts):
    return html(parts)


@pytest.fixture(scope="module")
def seen(page):
    return Seen(page)


def invoked(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_the_answer_comes_first_and_says_what_won_how_surely_and_what_next(seen):
    text = seen.text
    places = [text.index(part) for part in ("What won", "Really better?", "What next")]
    assert places == sorted(places)
    first = text[: text.index("Why it stops there")]
    assert "81.2 %" in first
    assert "augment light, lr 0.001" in first
    assert re.search(r"\d\d\.\d–\d\d\.\d %", first)


def test_configs_that_chance_could_have_ordered_are_said_to_be_tied(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.80, lr=1e-3, num_images=FEW)
    add(results, 0.79, lr=1e-4, num_images=FEW)
    (part,) = read_parts([results.location])
    found = answer(part)
    assert found.really == "Not shown"
    assert "2 of 2 configs may be the best" in found.why


def test_a_config_that_beats_all_others_is_said_to_be_better(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.9, lr=1e-3, num_images=FEW)
    add(results, 0.5, lr=1e-4, num_images=FEW)
    add(results, 0.5, lr=1e-5, num_images=FEW)
    (part,) = read_parts([results.location])
    found = answer(part)
    assert found.really == "Yes, for these runs"
    assert "picked out of" in found.why
    assert "the luck of its best epoch, which the same images picked, is still in" in found.why
    assert "epochs around it" not in found.why  # it is the last one: those before it learned less
    assert "luck of the seed" in found.why


def test_the_epochs_around_the_best_one_tell_its_luck_only_where_training_went_on():
    winner = pd.DataFrame({"trial_id": ["a", "b"], "best_epoch": [2, 3]})
    epochs = pd.DataFrame({"trial_id": list("aaabbb"), "epoch": [1, 2, 3] * 2})
    epochs["val_accuracy"] = [0.6, 0.8, 0.7, 0.1, 0.2, 0.9]  # b would still climb
    part = SimpleNamespace(winner_trials=winner, epochs=epochs)
    assert _beside_best(part) == " (the epochs around it: 65.0 %)"


def test_with_several_seeds_it_is_said_without_reserve(tmp_path):
    results = results_of(tmp_path)
    for seed in (0, 1):
        add(results, 0.9 + seed / 100, lr=1e-3, num_images=FEW, seed=seed)
        add(results, 0.5 + seed / 100, lr=1e-4, num_images=FEW, seed=seed)
    (part,) = read_parts([results.location])
    assert answer(part).really == "Yes"


def test_a_winner_over_what_was_stopped_early_is_said_to_be_one(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.9, lr=1e-3, num_images=FEW)
    add(results, 0.5, lr=1e-4, num_images=FEW)
    add(results, 0.3, lr=1e-5, num_images=FEW, status="pruned", num_epochs=2)
    (part,) = read_parts([results.location])
    found = answer(part)
    assert found.really == "Yes, of those that ran to the end"
    assert "It beats the other 1" in found.why
    assert "1 more were stopped early, and are not compared." in found.why


def test_nothing_is_claimed_without_the_winners_predictions(tmp_path):
    results = results_of(tmp_path)
    best = add(results, 0.9, lr=1e-3, num_images=FEW)
    add(results, 0.3, lr=1e-4, num_images=FEW)
    add(results, 0.2, lr=1e-5, num_images=FEW)
    Path(results.path_of(f"predictions/{best}.parquet")).write_bytes(b"torn")
    (part,) = read_parts([results.location])
    found = answer(part)
    assert found.really == "Cannot be told"
    assert "predictions are missing or damaged" in found.why


@pytest.mark.parametrize(("accuracy", "really"), [(0.89, "Cannot be told"), (0.3, "Yes")])
def test_who_validated_other_images_may_be_as_good(tmp_path, accuracy, really):
    results = results_of(tmp_path)
    for seed in (0, 1):
        add(results, 0.9, lr=1e-3, num_images=FEW, seed=seed)
        add(results, 0.5, lr=1e-4, num_images=FEW, seed=seed)
        elsewhere = {"split": {"seed": 1}, "split_fingerprint": "split1"}
        add(results, accuracy, lr=1e-5, num_images=FEW, seed=seed, predicted=False, **elsewhere)
    (part,) = read_parts([results.location])
    found = answer(part)
    assert found.really == really
    assert "1 more validated other images" in found.why


def test_what_was_not_read_for_its_number_does_not_pass_for_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_FAMILIES", 2)
    results = results_of(tmp_path)
    for lr in (1e-3, 1e-4, 1e-5):
        add(results, 0.8, lr=lr, num_images=FEW)
    (part,) = read_parts([results.location])
    why = answer(part).why
    assert "1 more were not read: only the best are compared" in why
    assert "could be read" not in why


def test_all_sections_are_there(seen):
    for title in (
        *("Leaderboard", "Learning curves", "What each axis does", "Parallel coordinates"),
        *("Classes", "Calibration", "Cost", "Images", "Failures", "Provenance"),
    ):
        assert title in seen.text, title


def test_markup_in_names_is_shown_as_text(page, seen):
    without = page.replace("".join(t for a, t in seen.scripts if not a), "")
    assert "<script>alert(1)" not in without
    assert "<img src=x" not in without
    assert "<b>b</b>" not in without
    assert "<script>alert(1)</script>" in seen.text
    assert "<img src=x onerror=alert(2)> is no image" in seen.text
    assert not [attrs for _, attrs in seen.tags if any(name.startswith("on") for name in attrs)]


def test_json_in_the_page_is_whole_and_can_end_no_script(seen):
    blobs = seen.json()
    assert len(blobs) >= 10
    for blob in blobs:
        json.loads(blob)
        assert not set(blob) & set("<>&")
    together = json.dumps([json.loads(blob) for blob in blobs], ensure_ascii=False)
    assert "&lt;script&gt;alert(1" in together  # plotly reads < in a label as a tag
    assert "기쁨 과 웃음" in together


def test_a_label_that_plotly_would_read_as_markup_is_escaped():
    assert label("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"
    assert len(label("x" * 100)) < 50


def test_the_page_fetches_nothing(page, seen):
    fetching = ("src", "href", "srcset", "action", "data", "poster", "background")
    for tag, attrs in seen.tags:
        for name in fetching:
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_lets_only_the_own_scripts_run(page, seen):
    (policy,) = [a["content"] for t, a in seen.tags if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    for attrs, text in seen.scripts:
        if not attrs:
            import_hash = hashlib.sha256(text.encode()).digest()
            assert f"'sha256-{_base64(import_hash)}'" in policy


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def test_the_file_is_small(page):
    assert len(page.encode()) < MAX_BYTES


def test_charts_have_words_for_who_does_not_see_them(seen):
    charts = [attrs for _, attrs in seen.tags if attrs.get("class") == "chart"]
    assert len(charts) >= 9
    for attrs in charts:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 20


def test_a_gain_of_one_pair_is_told_without_an_interval(tmp_path):
    results = results_of(tmp_path, axes={"augment": ["none", "light"]})
    add(results, 0.6, augment="none", num_images=FEW)
    add(results, 0.65, augment="light", num_images=FEW)
    (part,) = read_parts([results.location])
    (chart,) = (block for block in axes(part.sweeps[0]).blocks if isinstance(block, Chart))
    assert chart.alt == "Gains in points: augment: light over none +5.0."


def test_markdown_has_answer_table_findings_and_failures_and_no_images(parts):
    text = markdown(parts)
    assert text.startswith("## invented")
    assert "augment light, lr 0.001: 81.2 %" in text
    assert "| tied |" in text
    assert "<details><summary>Findings</summary>" in text
    assert "1 trial failed" in text
    assert r"\<img src=x onerror=alert(2)\> is no image" in text
    assert "![" not in text


def test_markdown_leaves_no_markup_active():
    assert plain("a|b <i> @you [x](y)") == r"a\|b \<i\> \@you \[x\](y)"


def test_sweeps_over_the_same_data_are_ranked_together(tmp_path):
    first, second = results_of(tmp_path / "a", "first"), results_of(tmp_path / "b", "second")
    add(first, 0.7, lr=1e-3, predicted=False)
    add(second, 0.8, lr=1e-4, predicted=False)
    (part,) = read_parts([first.location, second.location])
    assert list(part.families["sweep"]) == ["second", "first"]
    assert answer(part).winner == "second, lr 0.0001"


def test_sweeps_over_other_data_are_shown_apart(tmp_path):
    first, second = results_of(tmp_path / "a", "first"), results_of(tmp_path / "b", "second")
    add(first, 0.7, lr=1e-3, predicted=False)
    add(second, 0.8, lr=1e-3, predicted=False, data="other")
    parts = read_parts([first.location, second.location])
    text = html(parts)
    tags = Seen(text).tags
    assert len([tag for tag, _ in tags if tag == "article"]) == 2
    assert "different states of the data" in text
    assert [set(part.families["sweep"]) for part in parts] == [{"first"}, {"second"}]


def test_one_directory_with_two_states_of_the_data_is_two_parts(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.7, lr=1e-3, predicted=False)
    add(results, 0.75, lr=1e-4, predicted=False)
    add(results, 0.9, lr=1e-3, data="other", predicted=False)
    parts = read_parts([results.location])
    assert [len(part.trials) for part in parts] == [2, 1]
    assert parts[0].sweeps[0].diagnosis is not None
    assert parts[1].sweeps[0].diagnosis is None
    assert "lr 0.0001" in answer(parts[0]).winner


def test_a_sweep_without_a_complete_trial_is_reported(tmp_path):
    axes = {"lr": [1e-2, 1e-3, 1e-4, 1e-5]}
    results = results_of(tmp_path, axes=axes, scheduler="asha")
    add(results, 0.3, status="pruned", num_epochs=2, lr=1e-2)
    add(results, 0.0, status="failed", error="boom", lr=1e-3)
    (part,) = read_parts([results.location])
    found = answer(part)
    assert "stopped early" in found.why
    assert any("2 trials of 4 have not ended" in step for step in found.then)
    assert "boom" in report([results.location])


@pytest.mark.parametrize(
    ("grid", "missing"),
    [
        ({}, 2),
        ({"budget": {"trials": 3}}, 1),
        ({"budget": {"trials": 2}}, 0),
        ({"budget": {"trials": 9}}, 2),
        ({"search": {"optuna": {"num_trials": 9}}}, 0),  # a config drawn twice runs once
    ],
)
def test_only_trials_that_would_still_run_are_to_come(tmp_path, grid, missing):
    results = results_of(tmp_path, axes={"lr": [1e-2, 1e-3, 1e-4, 1e-5]}, **grid)
    for lr in (1e-2, 1e-3):
        add(results, 0.0, status="failed", error="boom", lr=lr)
    (part,) = read_parts([results.location])
    assert part.sweeps[0].num_missing == missing
    assert (f", {missing} to come" in summary(part)) == bool(missing)
    assert any("have not ended" in step for step in answer(part).then) == bool(missing)


def test_a_sweep_of_failures_alone_is_reported(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.0, status="failed", error="boom", lr=1e-3)
    add(results, 0.0, status="failed", error="boom", lr=1e-4)
    text = Seen(report([results.location])).text
    assert "All 2 trials that ended have failed" in text
    assert "2 trials failed, of 1 cause" in text
    assert "All 2 trials" in report([results.location], "markdown")


def test_no_results_are_refused_and_nothing_is_written(tmp_path):
    place = tmp_path / "nothing"
    with pytest.raises(Refused):
        report([str(place)])
    done = invoked(place)
    assert done.exit_code == 2
    assert "no such results directory" in done.stderr
    assert not place.exists()


def test_the_command_writes_into_the_results_and_nothing_else(tmp_path):
    results = results_of(tmp_path / "results")
    add(results, 0.7, lr=1e-3, predicted=False)
    results.flush()
    before = set(results.folder.names())
    done = invoked(results.location)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "results" / "report.html")
    assert set(results.folder.names()) - before == {"report.html"}


def test_the_command_writes_where_it_is_told(tmp_path, monkeypatch):
    results = results_of(tmp_path / "results")
    add(results, 0.7, lr=1e-3, predicted=False)
    monkeypatch.chdir(tmp_path)
    assert invoked(results.location, "-o", "new/mine.html").exit_code == 0
    assert (tmp_path / "new" / "mine.html").read_text("utf-8").startswith("<!doctype html>")
    assert not results.folder.exists("report.html")


def test_the_command_writes_behind_a_uri_and_never_below_a_file(tmp_path, monkeypatch):
    results = results_of(tmp_path / "results")
    add(results, 0.7, lr=1e-3, predicted=False)
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "_open", lambda location: (remote, location.removeprefix("s3://")))
    monkeypatch.chdir(tmp_path)
    done = invoked(results.location, "-o", "s3://bucket/x/mine.html")
    assert (done.exit_code, done.stdout) == (0, "s3://bucket/x/mine.html\n")
    assert (tmp_path / "bucket" / "x" / "mine.html").exists()
    assert not (tmp_path / "s3:").exists()
    refused = invoked(results.location, "-o", "bucket/x/mine.html/report.html")
    assert refused.exit_code == 2
    assert "mine.html, which is a file" in refused.stderr


def test_a_comparison_leaves_the_single_report_alone(tmp_path):
    first, second = results_of(tmp_path / "a"), results_of(tmp_path / "b", "second")
    add(first, 0.7, lr=1e-3, predicted=False)
    add(second, 0.8, lr=1e-4, predicted=False)
    done = invoked(first.location, second.location)
    assert done.stdout.strip() == str(tmp_path / "a" / "comparison.html")
    assert not first.folder.exists("report.html")


def test_markdown_goes_to_stdout(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.7, lr=1e-3, predicted=False)
    done = invoked(results.location, "--format", "markdown")
    assert done.stdout.startswith("## invented")
    assert not results.folder.exists("report.html")


def test_a_real_sweep_is_reported(finished):
    text = Seen(report([str(finished / "results")])).text
    assert "4 trials: 4 complete" in text
    assert "Reliability of the winner" in text


def test_pruned_trials_make_a_ladder(tmp_path):
    results = results_of(tmp_path, scheduler={"asha": {"grace_epochs": 2, "reduction_factor": 2}})
    for i in range(6):
        ended = i < 2
        status = "complete" if ended else "pruned"
        num_epochs = 6 if ended else 2 if i < 4 else 4
        config = {"lr": 10.0 ** -(i + 1), "predicted": False}
        add(results, 0.7 - 0.02 * i, status=status, num_epochs=num_epochs, **config)
    seen = Seen(report([results.location]))
    assert "4 trials of 6 were stopped early" in seen.text
    charts = [a["aria-label"] for _, a in seen.tags if a.get("class") == "chart"]
    assert "6 reached epoch 2, 4 reached epoch 4, 2 reached epoch 6." in charts


def test_a_ladder_knows_how_long_each_trial_was_planned(tmp_path):
    """20 epochs next to 4: of the 48 that were asked for, 34 ran; nobody is at the end yet."""
    asha = {"asha": {"grace_epochs": 2, "reduction_factor": 3}}
    axes = {"epochs": [4, 20], "lr": [1e-3, 1e-4]}
    results = results_of(tmp_path, axes=axes, scheduler=asha)
    for epochs, num_epochs, status in ((4, 4, "complete"), (20, 18, "pruned")):
        add(results, 0.6, lr=1e-3, epochs=epochs, num_epochs=num_epochs, status=status)
    add(results, 0.6, lr=1e-4, epochs=4, num_epochs=4, predicted=False)
    add(results, 0.6, lr=1e-4, epochs=20, num_epochs=8, status="pruned")
    (part,) = read_parts([results.location])
    found = ladder(part.sweeps[0])
    assert "34 epochs ran, 71% of the 48 of all trials run to their end" in found.lead
    assert found.blocks[0].alt.endswith("1 reached epoch 18, 0 reached epoch 20.")


def test_rungs_are_ashas():
    asha = {"scheduler": {"asha": {"grace_epochs": 2, "reduction_factor": 3}}}
    assert rungs(asha, 20) == [2, 6, 18, 20]
    assert rungs({"scheduler": "asha"}, 6) == [2, 6]
    assert rungs({"scheduler": "none"}, 20) == []


def predictions(labels, probs, classes=CLASSES, first=0):
    ids = np.array([f"{i:06d}" for i in range(first, first + len(labels))])
    return TrialPredictions("t", ids, np.asarray(labels), tuple(classes), np.float32(probs))


def test_calibration_error_is_none_where_confidence_is_true_and_known_where_it_is_not():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1.0, 200_000)
    probs = np.column_stack([sure, 1 - sure])
    labels = (rng.random(len(sure)) > sure).astype(np.int64)
    assert reliability([predictions(labels, probs, "ab")]).ece < 0.005
    always = np.zeros(1000, np.int64)
    always[:300] = 1
    found = reliability([predictions(always, np.tile([0.9, 0.1], (1000, 1)), "ab")])
    assert found.ece == pytest.approx(0.2, abs=1e-5)
    assert found.bias == pytest.approx(0.2, abs=1e-5)
    assert len(found.accuracy) == 1 <= NUM_BINS


def test_a_calibration_error_that_chance_makes_is_told_as_such():
    """Of 141 guesses whose confidence is true, bins alone make an error of several percent."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 1.0, 141)
    others = np.repeat((1 - sure)[:, None] / 6, 6, axis=1)
    labels = np.where(rng.random(141) < sure, 0, 1)
    found = reliability([predictions(labels, np.column_stack([sure, others]), "abcdefg")])
    assert 0.03 < found.chance_ece < 0.15
    assert found.chance_bias > 0.04
    assert abs(found.ece - found.chance_ece) < 0.05


def test_confusion_counts_labels_in_rows():
    probs = np.eye(4)[[0, 1, 1, 2]]
    counts = confusion([predictions([0, 0, 1, 2], probs)])
    assert counts[0].tolist() == [1, 1, 0, 0]
    assert shares(counts)[0].tolist() == [0.5, 0.5, 0, 0]
    assert np.isnan(shares(counts)[3]).all()


def test_images_count_once_however_many_seeds_or_folds_validated_them():
    probs = np.tile(np.eye(4), (5, 1))
    labels = np.tile([0, 1, 2, 2], 5)
    seeds = [predictions(labels, probs), predictions(labels, probs)]
    folds = [predictions(labels, probs), predictions(labels, probs, first=20)]
    assert recall(seeds).images.tolist() == [5, 5, 10, 0]
    assert recall(folds).images.tolist() == [10, 10, 20, 0]
    assert recall(folds).winner[:3].tolist() == recall(seeds).winner[:3].tolist() == [1, 1, 0.5]
    assert recall(folds).low[0] > recall(seeds).low[0]
    assert reliability(seeds).num_images.sum() == 20
    assert reliability(folds).num_images.sum() == 40


def test_a_copy_without_its_epochs_is_diagnosed_and_reported(tmp_path):
    results = usual(tmp_path)
    results.flush()
    shutil.rmtree(tmp_path / "records", ignore_errors=True)
    (tmp_path / "epochs.parquet").unlink(missing_ok=True)
    text = report([results.location], "markdown")
    assert "its curve cannot be told" in text


def test_failures_that_differ_in_their_numbers_alone_are_of_one_cause(tmp_path):
    results = results_of(tmp_path)
    for place in range(3):
        error = f"CUDA out of memory. Tried to allocate {place + 2}.00 MiB"
        add(results, 0.0, status="failed", error=error, lr=1e-3 * (place + 1))
    add(results, 0.0, status="failed", error="boom", lr=1e-4)
    found = causes(read_parts([results.location])[0])
    assert found["num"].tolist() == [3, 1]
    assert found["cause"][0].startswith("CUDA out of memory. Tried to allocate ")


def test_a_failed_trial_makes_no_config_look_slow(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.7, lr=1e-3, num_epochs=6, predicted=False)
    add(results, 0.0, lr=1e-3, num_epochs=60, seed=1, status="failed", error="boom")
    (part,) = read_parts([results.location])
    assert timed(part)["each"].tolist() == [6.0]


def test_what_the_locked_test_split_said_stands_with_the_answer(tmp_path):
    results = results_of(tmp_path)
    add(results, 0.7, lr=1e-3, predicted=False)
    test = {"accuracy": 0.66, "accuracy_low": 0.6, "accuracy_high": 0.715, "num_images": 250}
    results.write_final({"data_fingerprint": "data", "test": test, "scorings": 1})
    said = "invented: locked test split 66.0 % [60.0–71.5 %] on 250 images, scored 1 time"
    text = Seen(report([results.location])).text
    assert text.index("Really better?") < text.index(said) < text.index("What next")
    assert plain(said) in report([results.location], "markdown")
    results.write_final({"data_fingerprint": "other", "test": test, "scorings": 1})
    assert "locked test split" not in report([results.location])


def test_true_and_false_are_sorted_as_words():
    assert is_number(pd.Series([1, 2]))
    assert not is_number(pd.Series([True, False]))


def test_pauses_between_runs_are_no_wall_time():
    trials = pd.DataFrame(
        {
            "started_at": [
                "2025-01-01T00:00:00+00:00",
                "2025-01-01T00:00:05.5+00:00",
                "2025-01-02T00:00:00+00:00",
                "",
            ],
            "seconds": [10.0, 10.0, 3.0, 100.0],
        }
    )
    assert busy_seconds(trials) == pytest.approx(18.5)


def png(colour):
    sink = io.BytesIO()
    Image.new("RGB", (40, 20), colour).save(sink, "PNG")
    return sink.getvalue()


def test_a_thumbnail_is_shown_only_of_the_image_that_was_learned_from(tmp_path):
    content = png("red")
    (tmp_path / "joy").mkdir()
    (tmp_path / "joy" / "1.png").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    shown = picture(str(tmp_path), "joy/1.png", digest, ())
    assert shown.uri.startswith("data:image/jpeg;base64,")
    assert picture(str(tmp_path), "joy/1.png", "0" * 64, ()).uri == ""
    assert picture(str(tmp_path), "joy/2.png", digest, ()).uri == ""
    assert picture(str(tmp_path / "faces.csv"), "joy/1.png", digest, ()).uri == shown.uri
    assert picture("toy", "joy/1.png", digest, ()).uri == ""


def test_bytes_that_are_no_image_make_no_thumbnail():
    assert thumbnail(b"no image") == ""
    assert thumbnail(png("blue")[:60]) == ""


def test_a_thumbnail_shows_what_training_saw():
    turned, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20), "red").save(turned, "JPEG", exif=exif)
    assert shown(turned).size == (48, 96)
    clear, deep = io.BytesIO(), io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(clear, "PNG")
    assert np.asarray(shown(clear)).min() == 255
    Image.fromarray(np.full((20, 20), 128 * 257, np.uint16)).save(deep, "PNG")
    assert np.asarray(shown(deep)).mean() == pytest.approx(128, abs=2)


def shown(file):
    """The thumbnail of an image file."""
    return Image.open(io.BytesIO(base64.b64decode(thumbnail(file.getvalue()).partition(",")[2])))


@pytest.mark.parametrize(("is_clear", "called"), [(True, "probably wrong"), (False, "dispute")])
def test_labels_are_called_wrong_only_where_that_can_be_told(is_clear, called):
    table = pd.DataFrame({"image_id": ["1"], "path": ["1.png"], "sha256": ["x"]})
    row = {"label": "joy", "suggested_label": "fear", "wrong_probability": 0.8}
    found = SimpleNamespace(
        suspects=table.assign(**row), quality=SimpleNamespace(is_clear=is_clear)
    )
    evidence = SimpleNamespace(images=table, opinion=None)
    section = images(SimpleNamespace(diagnosis=found, evidence=evidence, grid={}))
    assert called in section.blocks[0].title


def test_copies_are_counted_and_shown(tmp_path):
    content = png("green")
    faces = tmp_path / "faces"
    faces.mkdir()
    (faces / "x.png").write_bytes(content)
    results = results_of(tmp_path / "results", data=str(faces))
    add(results, 0.7, lr=1e-3, predicted=False)
    digest = hashlib.sha256(content).hexdigest()
    more = [
        {"image_id": f"c{i}", "path": path, "label": name, "sha256": digest, "status": "ok"}
        for i, (path, name) in enumerate([("x.png", CLASSES[0]), ("y.png", CLASSES[1])])
    ]
    write_images(results, CLASSES, more)
    text = report([results.location])
    assert "2 images are copies, in 1 group; 1 of these carry different labels." in text
    assert text.count("data:image/jpeg;base64,") == 1


def test_results_behind_a_uri_keep_their_report_there(tmp_path, monkeypatch):
    results = results_of(tmp_path / "bucket" / "results")
    add(results, 0.7, lr=1e-3, predicted=False)
    disk = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("raylab.storage._open", lambda uri: (disk, uri.removeprefix("s3://")))
    done = invoked("s3://bucket/results")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "s3://bucket/results/report.html"
    assert results.folder.exists("report.html")


def test_the_password_of_a_storage_is_in_no_report(tmp_path, monkeypatch):
    disk = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("raylab.storage._open", lambda uri: (disk, uri.rpartition("@")[2]))
    place = "s3://KEY:S3CRET@bucket/results"
    results = results_of(place, data="s3://KEY:S3CRET@bucket/faces")
    error = "s3://KEY:S3CRET@bucket/faces is away (log: somewhere)"
    add(results, 0.0, status="failed", error=error, lr=1e-3)
    text = report([place])
    assert "S3CRET" not in text + report([place], "markdown")
    assert "data: s3://bucket/faces" in text
    assert "s3://bucket/faces is away" in text


def test_infinite_and_missing_numbers_are_no_broken_json():
    chart = go.Figure(data=[{"type": "scatter", "y": [float("nan"), float("inf"), 1.0]}])
    assert json.loads(json_of(chart))


def colours_in(value) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(colours_in(v) for v in value.values()), set())
    if isinstance(value, list):
        return set().union(*(colours_in(v) for v in value), set())
    is_colour = isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value)
    return {value} if is_colour else set()


def test_every_colour_of_a_chart_has_a_counterpart_in_the_dark(seen):
    used = set().union(*(colours_in(json.loads(blob)) for blob in seen.json()[:-1]))
    assert used
    assert used <= DARK.keys()
    assert not DARK.keys() & set(DARK.values())  # turning dark twice would be another colour


def test_numbers_in_a_heat_map_can_be_read():
    for ink, cells in ((INK, STEPS), (DARK[INK], [DARK[step] for step in STEPS])):
        for cell in cells:
            assert contrast(ink, cell) >= 4.5


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
