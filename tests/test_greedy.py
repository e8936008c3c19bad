"""Greedy selection: the mean that fits the images best, of few models, with weights that add up."""

import numpy as np
import pyarrow as pa
import pytest

from raylab.results.greedy import greedy_weights, label_probs


def log_loss(of_label, weights):
    return -np.log(weights @ of_label).mean()


@pytest.fixture(scope="module")
def of_label():
    """12 models, 400 images; each is right about a share of its own, the first most often."""
    rng = np.random.default_rng(0)
    skill = np.linspace(0.9, 0.5, 12)[:, None]
    return np.where(rng.random((12, 400)) < skill, 0.8, 0.05)


def test_weights_add_up_and_are_of_no_more_models_than_asked(of_label):
    for most in (1, 2, 5, 12):
        weights = greedy_weights(of_label, most)
        assert weights.sum() == pytest.approx(1)
        assert 1 <= np.count_nonzero(weights) <= most


def test_one_model_is_the_first(of_label):
    assert greedy_weights(of_label, 1).tolist() == [1] + [0] * 11


def test_the_ensemble_beats_its_best_model_and_the_equal_mean(of_label):
    weights = greedy_weights(of_label, 12)
    assert log_loss(of_label, weights) < -np.log(of_label).mean(axis=1).min()
    assert log_loss(of_label, weights) <= log_loss(of_label, np.full(12, 1 / 12))


def test_models_that_err_on_other_images_are_taken_rather_than_a_copy():
    first = np.array([0.9] * 50 + [0.1] * 50)
    copy, other = first - 0.01, first[::-1]
    weights = greedy_weights(np.stack([first, copy, other]), 2)
    assert weights == pytest.approx([0.5, 0, 0.5])


def test_a_model_that_only_harms_is_left_out():
    good, bad = np.full(30, 0.9), np.full(30, 0.2)
    assert greedy_weights(np.stack([good, bad]), 2).tolist() == [1, 0]


def test_a_model_that_is_sure_and_wrong_gives_no_infinity():
    weights = greedy_weights(np.array([[0.0, 1.0], [1.0, 0.0]]), 2)
    assert weights == pytest.approx([0.5, 0.5])


def test_folds_are_joined_in_the_order_of_their_images():
    def table(ids, labels):
        probs = {"p_a": [0.7] * len(ids), "p_b": [0.3] * len(ids)}
        return pa.table({"image_id": ids, "label": labels, **probs})

    ids, probs = label_probs([table(["3", "1"], ["a", "b"]), table(["2"], ["a"])])
    assert ids.tolist() == ["1", "2", "3"]
    assert probs.tolist() == [0.3, 0.7, 0.7]
