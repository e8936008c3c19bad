"""Metrics: right on counts, and counts add up over workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.training.metrics import accuracy, confusion_counts, f1_per_class, macro_f1

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=80)


def counts_of(given_pairs):
    labels, predicted = np.array(given_pairs).reshape(-1, 2).T
    return confusion_counts(labels, predicted, 4)


def test_known_counts_give_known_metrics():
    counts = np.array([[8, 2], [4, 6]])
    assert accuracy(counts) == 0.7
    assert macro_f1(counts) == pytest.approx((16 / 22 + 12 / 18) / 2)


@given(pairs, st.integers(0, 80))
def test_counts_of_shards_sum_to_the_whole(given_pairs, cut):
    first, second = given_pairs[:cut], given_pairs[cut:]
    parts = [counts_of(part) for part in (first, second) if part]
    assert np.array_equal(sum(parts), counts_of(given_pairs))


@given(pairs)
def test_accuracy_is_the_share_of_equal_pairs(given_pairs):
    assert accuracy(counts_of(given_pairs)) == np.mean([a == b for a, b in given_pairs])


def test_a_class_that_is_nowhere_does_not_lower_macro_f1():
    counts = np.diag([5, 5, 0])
    assert macro_f1(counts) == 1
    assert np.isnan(f1_per_class(counts)[2])


def test_no_image_gives_zero_not_nan():
    assert accuracy(np.zeros((2, 2), np.int64)) == 0
    assert macro_f1(np.zeros((2, 2), np.int64)) == 0
