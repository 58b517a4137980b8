"""Every dataset that is read again and again ends at once: nothing tunes it."""

import time

import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.untuned import untuned


def test_elements_and_order_are_those_of_the_dataset():
    dataset = tf.data.Dataset.range(9).map(lambda i: i * i, num_parallel_calls=2, deterministic=True).prefetch(2)
    assert list(untuned(dataset).as_numpy_iterator()) == list(dataset.as_numpy_iterator())
    assert untuned(dataset).options().autotune.enabled is False


def test_batches_are_untuned(qqp_folder):
    data = PreparedData(qqp_folder)
    assert pair_batches(data, data.arrays("test"), 4).dataset(None).options().autotune.enabled is False


def test_reading_that_breaks_off_does_not_wait(qqp_folder):
    """Beside the time that reading itself takes: 20 tuned iterators take five seconds to end."""
    path = next(qqp_folder.glob("test-*.tfrecord"))
    begun = [tfrecords.read_records(path) for _ in range(20)]
    for records in begun:
        next(records)
    start = time.monotonic()
    while begun:
        begun.pop().close()
    assert time.monotonic() - start < 2.5
