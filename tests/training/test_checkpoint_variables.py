"""TensorFlow's variables go to a checkpoint and back, and arrays that do not fit them change nothing."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from made_values import assert_same_arrays

from hcl_tf.errors import UserError
from hcl_tf.training.checkpoints import Checkpoints, assign, variables_of


def model_variables() -> dict[str, tf.Variable]:
    return {
        "kernel": tf.Variable(tf.random.normal([3, 4])),
        "half": tf.Variable(tf.zeros([2], tf.float16)),
        "brain": tf.Variable(tf.ones([2], tf.bfloat16)),
        "count": tf.Variable(5, dtype=tf.int64),
        "flag": tf.Variable(True),
        "empty": tf.Variable(tf.zeros([0, 2])),
    }


def moved(array: np.ndarray) -> np.ndarray:
    return ~array if array.dtype == bool else array + array.dtype.type(1)


def test_variables_go_to_disk_and_back(tmp_path):
    variables = model_variables()
    saved = variables_of(variables)
    Checkpoints(tmp_path).save(1, saved, {})
    for variable in variables.values():
        variable.assign(moved(variable.numpy()))
    assert not np.array_equal(saved["kernel"], variables["kernel"].numpy())  # what was taken is a copy
    assign(variables, Checkpoints(tmp_path).newest().arrays)
    assert_same_arrays(variables_of(variables), saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("count"), "count is missing"),
        (lambda arrays: arrays.update(other=np.zeros(1)), "other is unknown to the model"),
        (lambda arrays: arrays.update(kernel=np.zeros((4, 3), np.float32)), r"kernel is float32\[4, 3\] instead of float32\[3, 4\]"),
        (lambda arrays: arrays.update(kernel=np.zeros((3, 4))), r"kernel is float64\[3, 4\] instead of float32\[3, 4\]"),
        (lambda arrays: arrays.update(count=np.zeros(1, np.int64)), r"count is int64\[1\] instead of int64\[\]"),
        (lambda arrays: arrays.update(brain=np.ones(2, np.float16)), r"brain is float16\[2\] instead of bfloat16\[2\]"),
        (lambda arrays: arrays.clear(), "brain is missing; count is missing; .*; and 1 more"),
    ],
)
def test_arrays_that_do_not_fit_change_nothing(change, message):
    variables = model_variables()
    before = variables_of(variables)
    arrays = {name: moved(array) for name, array in before.items()}
    change(arrays)
    with pytest.raises(UserError, match=f"RUN/step does not fit the model: .*{message}; use the flags"):
        assign(variables, arrays, origin="RUN/step")
    assert_same_arrays(variables_of(variables), before)


def test_variables_of_a_strategy_and_of_mixed_precision():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        layer = keras.layers.Dense(3, dtype=keras.mixed_precision.Policy("mixed_float16"))
        layer.build([None, 2])
        optimizer = keras.optimizers.Adam()
        optimizer.build(layer.trainable_variables)
    variables = {f"layer/{v.name}": v for v in layer.variables} | {f"adam/{v.name}": v for v in optimizer.variables}
    assert isinstance(layer.kernel, tf.distribute.DistributedValues) or hasattr(layer.kernel, "values")
    saved = variables_of(variables)
    assert saved["layer/kernel:0"].dtype == np.float32
    assert any(array.dtype == np.int64 and array.shape == () for array in saved.values())
    changed = {name: moved(array) for name, array in saved.items()}
    assign(variables, changed)
    assert_same_arrays(variables_of(variables), changed)
    for replica in layer.kernel.values:
        np.testing.assert_array_equal(replica.numpy(), changed["layer/kernel:0"])
