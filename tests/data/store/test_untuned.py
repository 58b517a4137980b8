"""Datasets that nothing tunes: the same elements, and batches are such."""

import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.untuned import untuned


def test_elements_and_order_are_those_of_the_dataset():
    dataset = tf.data.Dataset.range(9).map(lambda i: i * i, num_parallel_calls=2, deterministic=True).prefetch(2)
    assert list(untuned(dataset).as_numpy_iterator()) == list(dataset.as_numpy_iterator())
    assert untuned(dataset).options().autotune.enabled is False


def test_batches_are_untuned(qqp_folder):
    data = PreparedData(qqp_folder)
    assert pair_batches(data, data.arrays("test"), 4).dataset(None).options().autotune.enabled is False
