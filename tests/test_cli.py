"""What the commands print and return; the sweep itself is tested in test_sweep.py."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from raylab import __version__
from raylab.cli import app
from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import Address
from raylab.config.grid import read_grid
from raylab.config.trial import TrialConfig
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.record import record_from
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Outcomes

GRID = """
name: small
data: toy:num=210
trial: {model: cnn, image_size: 16, channels: 1, epochs: 2}
axes: {lr: [1.0e-2, 1.0e-3], augment: [none, light]}
seeds: [0, 1]
"""


def raylab(*arguments: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(GRID)
    return tmp_path


@pytest.fixture
def results(place: Path) -> ResultsDirectory:
    """Three trials as an earlier sweep left them."""
    directory = ResultsDirectory(place / "results" / "small")
    for lr, accuracy in ((1e-2, 0.5), (1e-3, 0.625), (1e-4, 0.25)):
        epoch = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
        config = TrialConfig(lr=lr)
        directory.add(record_from(config, "data", "split", [epoch], "complete", num_val=64))
    directory.flush()
    return directory


def test_help_begins_with_an_example_and_version_is_told() -> None:
    assert "raylab sweep grids/quickstart.yaml" in raylab("--help").stdout
    assert raylab("--version").stdout.strip() == __version__


@pytest.mark.parametrize(("typed", "offered"), [("wat", "watch"), ("sweep --noti", "--notify")])
def test_the_shell_completes_verbs_and_options(typed: str, offered: str) -> None:
    words = f"raylab {typed}"
    asked = {
        **{"_RAYLAB_COMPLETE": "complete_bash", "COMP_WORDS": words},
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    answer = CliRunner().invoke(app, [], env=asked, prog_name="raylab")
    assert offered in answer.stdout.split()


def test_plan_tells_trials_variants_and_images_and_touches_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    plan = json.loads(raylab("plan", "small.yaml", "--json").stdout)
    assert plan["trials"] == 8
    assert plan["to_run"] == 8
    assert plan["fields"] == ["augment", "lr", "seed"]
    assert plan["epochs"] == 16
    assert plan["images"] == 210
    assert [(v["image_size"], v["channels"]) for v in plan["variants"]] == [(16, 1)]
    assert sorted(place.rglob("*")) == before


def test_dry_run_is_the_plan(place: Path) -> None:
    assert raylab("sweep", "small.yaml", "--dry-run").stdout == raylab("plan", "small.yaml").stdout


def test_plan_counts_what_is_done_and_not_what_another_scheduler_pruned(place: Path) -> None:
    plan = Plan(read_grid(place / "small.yaml"), scan("toy:num=210"))
    first, second, third, *_ = plan.configs()
    epoch = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0}
    better = {"epoch": 2, "val_accuracy": 0.4, "val_loss": 0.5, "seconds": 1.0}
    results = ResultsDirectory("results/small")
    data = plan.source.fingerprint
    results.add(record_from(first, data, "split", [epoch, better], "complete", num_val=64))
    results.add(record_from(second, data, "split", [epoch], "pruned", num_val=64))
    results.add(record_from(third, data, "split", [], "failed", error_kind="diverged"))
    assert done("small.yaml") == 2
    asha = "scheduler={asha: {grace_epochs: 1}}"
    assert done("small.yaml", "--set", asha) == 3
    assert done("small.yaml", "--set", "metric=val_loss") == 1  # another epoch would be the best


def done(*arguments: str) -> int:
    answer = json.loads(raylab("plan", *arguments, "--json").stdout)
    assert answer["to_run"] == answer["trials"] - answer["done"]
    return int(answer["done"])


def test_set_overrides_any_key(place: Path) -> None:
    answer = raylab("plan", "small.yaml", "--json", "--set", "axes.lr=[1e-3]", "--set", "seeds=[7]")
    assert json.loads(answer.stdout)["trials"] == 2


def test_leaderboard_ranks_and_prints_every_format(results: ResultsDirectory) -> None:
    table = raylab("leaderboard", results.location).stdout
    assert table.index("0.6250") < table.index("0.5000") < table.index("0.2500")
    rows = json.loads(raylab("leaderboard", results.location, "--format", "json").stdout)
    assert [row["lr"] for row in rows] == [1e-3, 1e-2, 1e-4]
    csv = raylab("leaderboard", results.location, "--format", "csv", "--top", "1").stdout
    assert len(csv.splitlines()) == 2
    markdown = raylab("leaderboard", results.location, "--format", "markdown").stdout
    assert markdown.startswith("|")


def test_leaderboard_ranks_by_any_measure(results: ResultsDirectory) -> None:
    rows = json.loads(
        raylab("leaderboard", results.location, "--by", "lr", "--format", "json").stdout
    )
    assert [row["lr"] for row in rows] == [1e-2, 1e-3, 1e-4]
    wrong = raylab("leaderboard", results.location, "--by", "val_acuracy")
    assert wrong.exit_code == 2
    assert "did you mean val_accuracy?" in wrong.stderr


def test_two_sweeps_are_read_together(results: ResultsDirectory, place: Path) -> None:
    other = ResultsDirectory(place / "results" / "other")
    epoch = {"epoch": 1, "val_accuracy": 0.9, "val_loss": 1.0, "seconds": 1.0}
    other.add(record_from(TrialConfig(lr=0.1), "data", "split", [epoch], "complete", num_val=64))
    table = raylab("leaderboard", results.location, other.location).stdout
    assert table.index("other") < table.index("small")


def test_missing_results_are_refused(place: Path) -> None:
    answer = raylab("leaderboard", "nothing-here")
    assert answer.exit_code == 2
    assert "nothing-here" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    "verb", ["leaderboard", "diagnose", "report", "watch", "final", "rerun", "extend", "toy"]
)
@pytest.mark.parametrize("wrong", ["a file", "a loop", "a name too long", "below a file"])
def test_a_path_that_cannot_be_used_is_told_in_one_line(place: Path, verb: str, wrong: str) -> None:
    (place / "file").write_text("no folder")
    (place / "loop").symlink_to("loop")
    path = {
        "a file": "file",
        "a loop": "loop",
        "a name too long": "x" * 300,
        "below a file": "file/below",
    }[wrong]
    more = {"rerun": ["0123456789ab"], "extend": ["0123456789ab", "--epochs", "3"]}.get(verb, [])
    answer = raylab(verb, path, *more)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert path in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2
    assert (place / "file").read_text() == "no folder"


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EROFS, errno.ENOSPC])
def test_what_the_system_says_of_a_path_is_told_in_one_line(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise OSError(code, os.strerror(code), "here/it")
    assert ended.value.code == 2
    said = f"here/it  cannot be used: {os.strerror(code)}; give another path\n"
    assert capsys.readouterr().err == said


def test_a_storage_that_does_not_answer_is_told_in_its_own_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setattr("raylab.storage.PAUSES_S", ())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there a moment later
    answer = raylab("leaderboard", f"s3://faces/x?endpoint_override=http://127.0.0.1:{port}")
    assert answer.exit_code == 1
    assert "AWS Error" in answer.stderr
    assert "give the same command again" in answer.stderr


@pytest.mark.parametrize(
    ("given", "around", "meant"),
    [
        ((), None, None),
        ((), "head:6379", "head:6379"),
        (("--address", "auto"), None, "auto"),
        (("--address", "none"), None, None),
        (("--address", "none"), "head:6379", None),
        (("--address", ""), "head:6379", None),
        ((), "none", None),
    ],
)
def test_an_address_of_none_is_a_local_ray(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], around: str | None, meant: str | None
) -> None:
    reached = []
    verb = typer.Typer()

    @verb.command()
    def join(address: Address = None) -> None:
        reached.append(address)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if around is not None:
        monkeypatch.setenv("RAY_ADDRESS", around)
    assert CliRunner().invoke(verb, given).exit_code == 0
    assert reached == [meant]


def test_a_sweep_stopped_before_its_first_trial_answers_programs_too(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Outcomes((), True, None)
    monkeypatch.setattr("raylab.sweep.runner.run_sweep", lambda *given: stopped)
    answer = raylab("sweep", "small.yaml", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)) == (130, [])


@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_a_missing_grid_is_refused(place: Path, command: str) -> None:
    answer = raylab(command, "absent.yaml")
    assert answer.exit_code == 2
    assert "absent.yaml" in answer.stderr
    assert "no trial was started" in answer.stderr


def test_where_trials_cannot_run_one_sentence_says_so(place: Path) -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None; from raylab.cli import main; "
        "sys.argv = ['raylab', *sys.argv[1:]]; main()"
    )

    def told(verb: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-W", "ignore", "-c", code, verb, "small.yaml"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    refused = told("sweep")
    assert refused.returncode == 2
    assert refused.stderr == "trials run on Linux and macOS; on Windows use raylab inside WSL\n"
    assert not (place / "results").exists()
    assert told("plan").returncode == 0


def test_toy_writes_a_folder_per_class_and_never_into_a_full_one(place: Path) -> None:
    assert raylab("toy", "얼굴 faces", "--num", "140").exit_code == 0
    classes = {path.name for path in (place / "얼굴 faces").iterdir()}
    assert classes == {"angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"}
    assert len(list((place / "얼굴 faces").rglob("*.png"))) == 140
    again = raylab("toy", "얼굴 faces", "--num", "140")
    assert again.exit_code == 2
    assert "not empty" in again.stderr
