"""The loop: it learns, repeats itself bit for bit, adds up over workers; every field matters."""

import json
import os
import shutil
import subprocess
import sys
import weakref
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import small_data

from raylab.config.trial import TrialConfig
from raylab.training import loop
from raylab.training.epoch import Best
from raylab.training.loop import DivergedError, Learner, train
from raylab.training.model import build_model
from raylab.training.worker import Collective

torch.set_num_threads(1)

BASE = {"model": "cnn", "image_size": 16, "epochs": 2, "batch_size": 16, "lr": 3e-3, "amp": "none"}
ALONE = Collective()
CPU = torch.device("cpu")


def run(data=None, report=lambda row, state: None, resume=None, best=None, how=None, **fields):
    config = TrialConfig(**(BASE | fields))
    data = data or small_data()
    return train(config, data, CPU, ALONE, report, resume, best=best, **(how or {}))


def measures(outcome):
    """Per epoch what was learned, without the clock."""
    return [astuple(row)[:7] for row in outcome.epochs]


@pytest.fixture(scope="module")
def base():
    return run()


def test_it_learns():
    outcome = run(epochs=6)
    assert outcome.epochs[-1].val_accuracy > 0.9
    assert outcome.epochs[-1].train_loss < outcome.epochs[0].train_loss
    assert outcome.best_probs.shape == (32, 4)
    assert outcome.best_probs.sum(1) == pytest.approx(np.ones(32), abs=1e-5)


def test_same_config_gives_the_same_metrics_bit_for_bit(base):
    torch.rand(3)  # what was drawn before is of no influence
    again = run()
    assert measures(again) == measures(base)
    assert np.array_equal(again.best_probs, base.best_probs)


CHANGES = [
    {"model": "resnet10t"},
    {"drop_rate": 0.5},
    {"train_layers": "head"},
    {"train_layers": ["layer4", "fc"]},
    *({"augment": name} for name in ("flip", "light", "erase", "strong", "trivial")),
    *({"augment": name} for name in ("randaugment", "augmix", "crop44")),
    {"augment": {"rotate_deg": 10}},
    {"augment": {"shift_frac": 0.1}},
    {"augment": {"crop_scale": 0.7}},
    {"augment": {"jitter": 0.2}},
    {"augment": {"erase": 0.5}},
    {"mixup": 0.4},
    {"cutmix": 1.0},
    {"label_smoothing": 0.1},
    {"sampler": "proportional"},
    {"sampler": "balanced"},
    {"class_weights": "balanced"},
    {"class_weights": "effective", "effective_beta": 0.9},
    {"loss": "focal", "focal_gamma": 1.0},
    {"loss": "gce", "gce_q": 0.5},
    {"freeze_bn": True},
    {"unfreeze_epochs": 1},
    {"layer_decay": 0.7},
    {"head_lr_scale": 10},
    {"sam_rho": 0.05},
    {"batch_size": 8},
    *({"optimizer": name} for name in ("sgd", "adam", "nadam", "radam", "rmsprop")),
    {"lr": 1e-3},
    {"weight_decay": 0.5},
    {"momentum": 0.5},
    *({"lr_schedule": name} for name in ("constant", "step", "plateau", "onecycle")),
    {"warmup_epochs": 0.5},
    {"swa_frac": 0.5},
    {"amp": "bf16"},
    {"seed": 1},
]
ONLY_VALIDATION = [
    {"ema_decay": 0.5},
    *({"tta": name} for name in ("flip", "fivecrop", "tencrop")),
]
# Tested below, or not of the loop: the images of the data decide on most of these.
ELSEWHERE = {"epochs", "pretrained", "drop_path_rate", "image_size", "channels", "split"}
ELSEWHERE |= {"patience", "pretrained_digest", "compile"}
ELSEWHERE |= {"soft_labels", "drop_suspects", "drop_suspects_digest", "crop", "interpolation"}
ELSEWHERE |= {"teacher", "teacher_digest", "teacher_weight"}


def test_a_batch_larger_than_all_that_trains_is_not_probed_as_such(monkeypatch):
    probed = []
    monkeypatch.setattr(loop, "resolve_amp", lambda config, device: probed.append(config))
    Learner(TrialConfig(**BASE | {"batch_size": 65_536}), small_data(), CPU, ALONE)
    Learner(TrialConfig(**BASE), small_data(), CPU, ALONE)
    assert [config.batch_size for config in probed] == [len(small_data().train_rows), 16]


def test_every_trial_field_is_tested():
    tested = {key for change in CHANGES + ONLY_VALIDATION for key in change} | ELSEWHERE
    assert tested == set(TrialConfig.model_fields)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_field_changes_the_training(base, change):
    changed = run(**change)
    assert changed.epochs[-1].train_loss != base.epochs[-1].train_loss
    assert changed.epochs[-1].val_loss != base.epochs[-1].val_loss


@pytest.mark.parametrize("change", ONLY_VALIDATION, ids=str)
def test_ema_and_tta_change_the_validation_only(base, change):
    changed = run(**change)
    assert [row.train_loss for row in changed.epochs] == [row.train_loss for row in base.epochs]
    assert changed.epochs[-1].val_loss != base.epochs[-1].val_loss


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_steps_learn_what_plain_ones_do(base):
    compiled = run(compile=True)
    for there, here in zip(measures(compiled), measures(base), strict=True):
        assert there == pytest.approx(here, rel=1e-3)
    assert compiled.best_state.keys() == base.best_state.keys()


def test_drop_path_rate_changes_the_training():
    fields = {"model": "resnet10t", "epochs": 1}
    losses = [run(**fields, drop_path_rate=rate).epochs[0].train_loss for rate in (0, 0.5)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_ends_a_trial_that_gets_no_better(patience):
    frozen = {"lr": 1e-30, "train_layers": "head", "epochs": 6}  # no epoch beats the first
    outcome = run(**frozen, patience=patience)
    assert len(outcome.epochs) == 1 + patience
    assert outcome.best_epoch == 1
    assert [row.is_last for row in outcome.epochs] == [False] * patience + [True]


def test_patience_lets_a_trial_go_on_while_it_gets_better():
    outcome = run(epochs=4, patience=3)
    assert [row.is_last for row in outcome.epochs] == [False, False, False, True]


def test_gradual_unfreezing_moves_the_later_stages_first():
    states = {}

    def keep(row, state):
        states[row.epoch] = state()["model"]

    run(epochs=3, unfreeze_epochs=1, report=keep)
    moved = [
        {
            name.split(".")[0]
            for name, tensor in states[epoch].items()
            if not torch.equal(tensor, states[epoch - 1][name])
        }
        for epoch in (2, 3)
    ]
    assert moved == [{"fc", "layer4"}, {"fc", "layer4", "layer3"}]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "radam", "rmsprop"])
def test_every_optimizer_takes_in_the_stages_that_open_later(name):
    fields = {"epochs": 3, "unfreeze_epochs": 1, "optimizer": name}
    states = []
    whole = run(**fields, report=lambda row, state: states.append(state()))
    assert all(np.isfinite(row.train_loss) for row in whole.epochs)
    for state in states[:2]:
        assert measures(run(**fields, resume=state)) == measures(whole)


def test_pretrained_weights_are_where_training_begins(base, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(run(epochs=6).best_state, path)
    assert run(pretrained=str(path), epochs=1).epochs[0].train_loss < base.epochs[0].train_loss


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_train(channels):
    assert len(run(small_data(channels=channels), channels=channels, augment="strong").epochs) == 2


def test_augmentation_touches_training_images_only():
    frozen = {"lr": 1e-30, "train_layers": "head"}  # nothing moves: validation cannot differ
    plain, augmented = run(**frozen), run(**frozen, augment="strong")
    assert plain.epochs[0].val_loss == augmented.epochs[0].val_loss
    assert plain.epochs[0].train_loss != augmented.epochs[0].train_loss


def test_validation_is_exact_whatever_the_batch_size(monkeypatch, base):
    monkeypatch.setattr("raylab.training.evaluate.IMAGES_PER_BATCH", 5)
    small = run()
    assert small.epochs[-1].val_accuracy == base.epochs[-1].val_accuracy
    assert small.epochs[-1].val_loss == pytest.approx(base.epochs[-1].val_loss, rel=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"lr_schedule": "plateau", "optimizer": "sgd"},
        {"ema_decay": 0.9, "augment": "strong"},
        {"unfreeze_epochs": 1, "layer_decay": 0.8, "sam_rho": 0.05},
        {"swa_frac": 0.75, "augment": "augmix", "optimizer": "sgd"},
    ],
    ids=["plateau, sgd", "ema, adamw", "unfreezing, sam", "swa, augmix"],
)
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_resumed_trial_ends_bit_for_bit_as_an_undisturbed_one(fields, stop_after, tmp_path):
    fields = fields | {"epochs": 4, "drop_rate": 0.2, "cutmix": 1.0}
    whole = run(**fields)

    def stop(row, state):
        if row.epoch == stop_after:
            torch.save(state(), tmp_path / "state.pt")
            raise SystemExit

    with pytest.raises(SystemExit):
        run(report=stop, **fields)
    resumed = run(resume=torch.load(tmp_path / "state.pt", weights_only=True), **fields)
    assert measures(resumed) == measures(whole)
    assert resumed.best_epoch == whole.best_epoch
    assert np.array_equal(resumed.best_probs, whole.best_probs)
    for name, tensor in whole.best_state.items():
        assert torch.equal(resumed.best_state[name], tensor)


@pytest.mark.parametrize("broken", [{"model": {}}, {"epochs": [{"epoch": 1}]}, {"best": {}}])
def test_a_trial_begins_anew_where_its_state_is_of_other_code(broken):
    whole = run(epochs=2)
    states, heard = [], []
    run(epochs=2, report=lambda row, state: states.append(state()))
    how = {"resumed": lambda rows: heard.append([row.epoch for row in rows])}
    anew = run(epochs=2, resume=states[0] | broken, how=how)
    assert measures(anew) == measures(whole)
    assert anew.best_epoch == whole.best_epoch
    assert not heard
    run(epochs=2, resume=states[0], how=how)
    assert heard == [[1]]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_a_device_that_fails_while_a_state_is_loaded_costs_no_epoch(error, monkeypatch):
    states, reported = [], []
    run(report=lambda row, state: states.append(state()))

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "load_state_dict", fail)
        with pytest.raises(type(error)):
            run(report=lambda row, state: reported.append(row.epoch), resume=states[0])
    assert not reported
    run(report=lambda row, state: reported.append(row.epoch), resume=states[0])
    assert reported == [2]


def test_a_trial_that_begins_anew_holds_one_network_at_a_time(monkeypatch):
    states, alive, begin = [], [], Learner.__init__
    run(report=lambda row, state: states.append(state()))

    def count(self, *given):
        alive.append(sum(learner() is not None for learner in learners))
        learners.append(weakref.ref(self))
        begin(self, *given)

    learners = []
    monkeypatch.setattr(Learner, "__init__", count)
    run(resume=states[0] | {"model": {}})
    assert alive == [0, 0]


def test_the_best_epoch_is_kept_when_a_trial_is_pruned():
    best = Best()

    def prune(row, state):
        if row.epoch == 2:
            raise SystemExit

    with pytest.raises(SystemExit):
        run(report=prune, best=best)
    assert best.epoch in (1, 2)
    assert best.probs.shape == (32, 4)
    assert "fc.weight" in best.state


@pytest.mark.parametrize(("metric", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
def test_best_epoch_is_by_the_metric_and_the_earlier_of_equals(metric, mode):
    outcome = run(epochs=5, how={"metric": metric, "mode": mode})
    values = [getattr(row, metric) for row in outcome.epochs]
    best_value = min(values) if mode == "min" else max(values)
    assert outcome.best_epoch == values.index(best_value) + 1


def test_best_state_gives_the_best_probabilities():
    outcome = run(epochs=3, ema_decay=0.5)
    model = build_model(TrialConfig(**BASE), 4)
    model.load_state_dict(outcome.best_state)
    data = small_data()
    images = (data.images[data.val_rows].permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        probs = model.eval()(images).softmax(1).numpy()
    assert probs == pytest.approx(outcome.best_probs, abs=1e-4)


BURSTING = {"optimizer": "sgd", "lr": 100, "momentum": 0.99, "weight_decay": 10}


def test_a_loss_that_is_no_number_ends_the_trial_with_its_place():
    with pytest.raises(
        DivergedError, match=r"^loss became (nan|inf) in epoch 1, step \d+ of 24; lr"
    ):
        run(**BURSTING, batch_size=2)


def test_a_validation_loss_that_is_no_number_ends_the_trial_too():
    with pytest.raises(DivergedError, match=r"^val_loss became (nan|inf) in epoch 1; lr"):
        run(**BURSTING)


def test_a_worker_without_training_images_is_refused():
    data = replace(small_data(), train_rows=np.array([], np.int64))
    with pytest.raises(ValueError, match="no training image"):
        run(data)


def test_images_may_be_a_shared_view_and_are_not_written_to():
    data = small_data()
    before = data.images.clone()
    run(data, augment="strong", mixup=0.2)
    assert torch.equal(data.images, before)


# One step per epoch over all images and fixed BatchNorm: then two workers must compute what one
# does, up to the order of float sums, although their shards are unequal (23 and 22, 16 and 15).
EXACT = BASE | {"batch_size": 45, "train_layers": "head", "optimizer": "sgd", "lr": 1, "epochs": 4}
EXACT |= {"class_weights": "balanced", "label_smoothing": 0.1}
LEARNING = BASE | {"ema_decay": 0.5, "sampler": "proportional", "augment": "light"}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """Both workers' answers to both configs: real processes, DistributedDataParallel over gloo."""
    folder, here = tmp_path_factory.mktemp("two_workers"), Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    command = [sys.executable, str(here / "two_workers.py")]
    configs = json.dumps([EXACT, LEARNING])
    outs = [folder / f"rank{rank}.json" for rank in (0, 1)]
    workers = [
        subprocess.Popen(
            [*command, str(rank), "2", str(folder / "store"), str(out), configs], env=environment
        )
        for rank, out in enumerate(outs)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    return [json.loads(out.read_text()) for out in outs]


def test_two_workers_learn_and_score_as_one(two_workers):
    alone = run(small_data(num_train=45, num_val=31), **EXACT)
    (first, *_), (second, *_) = two_workers
    for one, row, other in zip(alone.epochs, first["epochs"], second["epochs"], strict=True):
        for name in ("train_loss", "val_loss", "val_accuracy", "val_macro_f1", "train_accuracy"):
            assert row[name] == other[name]
            assert row[name] == pytest.approx(getattr(one, name), rel=1e-4)
    assert [first["num_probs"], second["num_probs"]] == [16, 15]
    assert [first["has_state"], second["has_state"]] == [True, False]


def test_two_workers_with_learning_batchnorm_agree_on_every_metric(two_workers):
    (_, first, _), (_, second, _) = two_workers
    for row, other in zip(first["epochs"], second["epochs"], strict=True):
        assert row["val_loss"] == other["val_loss"]
        assert row["train_loss"] == other["train_loss"]


def test_batchnorm_remembers_what_all_workers_saw(two_workers):
    seen = 1 - 0.9**3  # of a mean over three batches, 0 on one worker and 1 on the other
    assert [remembered for *_, remembered in two_workers] == [pytest.approx(seen / 2)] * 2
