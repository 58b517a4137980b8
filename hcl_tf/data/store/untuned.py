"""Datasets of tf.data without its search for the best degree of parallelism."""


def untuned(dataset):
    """Returns a `tf.data.Dataset` that is read as it is written.

    None of ours leaves a degree of parallelism open, so there is nothing to tune; but the thread that would do it holds up the end of every
    iteration by up to a quarter of a second, and a validation or a small file takes no longer than that.
    """
    import tensorflow as tf  # not above: exported trainings make batches where TensorFlow is missing

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
