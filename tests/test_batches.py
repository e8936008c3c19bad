"""Batches: every row where it belongs, class shares exact, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.training.batches import batch_sizes, epoch_batches

some_labels = st.lists(st.integers(0, 6), min_size=1, max_size=300).map(np.array)
some_batch_size = st.integers(1, 64)


@settings(deadline=None, max_examples=60)
@given(some_labels, some_batch_size, st.sampled_from(["shuffle", "proportional"]))
def test_every_row_comes_once_and_no_batch_is_too_large(labels, batch_size, sampler):
    batches = epoch_batches(labels, batch_size, sampler, seed=1, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(len(labels)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=100)
@given(some_labels, some_batch_size)
def test_proportional_batches_carry_each_class_within_one_image(labels, batch_size):
    for batch in epoch_batches(labels, batch_size, "proportional", seed=3, epoch=2):
        for label in np.unique(labels):
            share = len(batch) * np.mean(labels == label)
            assert abs(np.sum(labels[batch] == label) - share) < 1 + 1e-9


@settings(deadline=None, max_examples=60)
@given(some_labels, some_batch_size)
def test_balanced_epochs_hold_the_classes_equally_often(labels, batch_size):
    rows = np.concatenate(epoch_batches(labels, batch_size, "balanced", seed=3, epoch=2))
    assert len(rows) == len(labels)
    counts = [np.sum(labels[rows] == label) for label in np.unique(labels)]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("sampler", ["shuffle", "proportional", "balanced"])
def test_order_depends_on_seed_and_epoch_alone(sampler):
    labels = np.arange(40) % 3

    def order(seed, epoch):
        return np.concatenate(epoch_batches(labels, 8, sampler, seed, epoch)).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_shuffled_batches_ignore_class_shares():
    labels = np.repeat([0, 1], 50)
    batches = epoch_batches(labels, 10, "shuffle", seed=0, epoch=1)
    assert {int(labels[batch].sum()) for batch in batches} != {5}


def test_batch_sizes_are_those_of_array_split():
    assert batch_sizes(10, 4).tolist() == [len(p) for p in np.array_split(np.arange(10), 4)]
