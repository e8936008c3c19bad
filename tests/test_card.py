"""A model card says what the results know of a model's origin."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from raylab.config.trial import TrialConfig
from raylab.results.card import About, _licence, model_card
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, record_from

CONFIG = TrialConfig(model="cnn")
CLASSES = ("happy", "sad")


def trained(results: ResultsDirectory) -> Record:
    """One trial with its predictions, the only one of the results."""
    row = {"epoch": 1, "val_accuracy": 0.75, "val_loss": 1.0, "seconds": 1.0}
    record = record_from(CONFIG, "data", "split", [row], "complete", num_val=4)
    results.add(record)
    probs = np.array([[0.9, 0.1]] * 4)
    labels = ["happy"] * 3 + ["sad"]
    results.write_predictions(record.trial_id, list("abcd"), labels, probs, CLASSES)
    return record


def card_of(record: Record, results: ResultsDirectory, *, is_final: bool) -> str:
    about = About(record.trial_id, "m.onnx", CONFIG, CLASSES, "as it is", is_final)
    return model_card(about, results)


def test_a_card_of_copied_results_says_what_they_lack(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    record = trained(results)
    card = card_of(record, results, is_final=False)
    assert "- Images: unknown here (fingerprint data)" in card
    assert "- Split `split`: unknown here" in card
    assert "Validation accuracy 0.7500" in card
    results.write_grid({"name": "r", "data": "faces"})
    results.write_split("split", pa.table({"image_id": ["a", "b"], "split": ["val", "train"]}))
    card = card_of(record, results, is_final=False)
    assert "- Images: faces (fingerprint data)" in card
    assert "- Split `split`: train 1, val 1" in card


def test_a_retrained_model_is_never_told_by_images_it_learned_from(tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    record = trained(results)
    entry = {"trial_id": record.trial_id, "epochs": 3, "rank": 2}
    results.write_final(
        {"scorings": 1, "models": [entry | {"weight": 0.5}]}
    )  # of an ensemble: it has no score of its own
    card = card_of(record, results, is_final=True)
    assert "- Retrained on train and val together\n" in card
    assert "No test score of this model alone is known here" in card
    assert "Validation accuracy" not in card
    assert "| happy |" not in card
    test = {"accuracy": 0.5, "accuracy_low": 0.1, "accuracy_high": 0.9, "macro_f1": 0.4}
    counts = {"num_images": 4, "confusion": [[1, 1], [1, 1]], "classes": CLASSES}
    results.write_final({"scorings": 5, "models": [entry | {"test": test | counts}]})
    card = card_of(record, results, is_final=True)
    assert "together for 3 epochs; scored on test\n" in card
    assert (
        "- Number 2 by validation; the test split was scored 5 times: expect a little less" in card
    )
    assert "- Test accuracy 0.5000" in card


def test_a_card_names_the_weights_at_the_start_of_a_line_of_trials() -> None:
    first = TrialConfig(model="resnet18", pretrained=True)
    parent, child = (
        record_from(config, "d", "s", [], "failed")
        for config in (first, TrialConfig(model="resnet18", pretrained="trial:0123456789ab"))
    )
    known = {"0123456789ab": parent, "ba9876543210": child}
    for name, said in (("0123456789ab", "timm's resnet18"), ("f" * 12, f"trial:{'f' * 12}")):
        config = TrialConfig(model="resnet18", pretrained=f"trial:{name}")
        assert f"began with ({said})" in _licence(config, known)
    grandchild = TrialConfig(model="resnet18", pretrained="trial:ba9876543210")
    assert "began with (timm's resnet18)" in _licence(grandchild, known)
