"""Recurrent networks that train on whole sequences and decode step by step: LSTM (Hochreiter and Schmidhuber 1997) and GRU
(Cho et al. 2014).

The input's share of all gates is one product over all positions, made before the loop, whose body holds the recurrent product
alone. Dropout is on what goes between layers and never on what goes from step to step (Zaremba et al. 2014). States stay float32
under mixed precision: they are sums over many steps.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.shapes import dimension

State = tuple[tf.Tensor, ...]  # [B, D] each; the first is the cell's output


class RecurrentCell(keras.layers.Layer):
    """A cell in two parts: `call` computes the input's share of the gates, `advance` the rest of a step.

    Args:
      width: D.

    Attributes:
      gates: how many vectors of width D the input is projected to. tensors: how many [B, D] a state has.
    """

    gates: int
    tensors: int

    def __init__(self, width: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width = width

    def build(self, shape: tf.TensorShape) -> None:
        self.kernel = self.add_weight("kernel", (shape[-1], self.gates * self.width), initializer="glorot_uniform")
        # One orthogonal matrix a gate: what the gates tell apart from the state starts at its full size (Saxe et al. 2014).
        self.recurrent = self.add_weight("recurrent", (self.width, self.gates * self.width), initializer=_orthogonal_blocks)
        self.bias = self.add_weight("bias", (self.gates * self.width,), initializer=self.first_bias)
        super().build(shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Projects inputs [..., E] to their share of the gates, [..., gates * D]."""
        return tf.tensordot(inputs, self.kernel, 1) + self.bias

    def advance(self, projected: tf.Tensor, state: State) -> State:
        """Computes the state after a step from projected inputs [B, gates * D] and the state before it."""
        raise NotImplementedError

    def first_bias(self, shape: tuple[int], dtype: tf.DType) -> tf.Tensor:
        """Returns the bias before training."""
        return tf.zeros(shape, dtype)

    def zero(self, rows: int | tf.Tensor) -> State:
        """Returns the state before anything is read."""
        return (tf.zeros([rows, self.width], self.variable_dtype),) * self.tensors

    def _recur(self, state: tf.Tensor) -> tf.Tensor:
        """Projects a state [B, D] to its share of the gates, [B, gates * D], in the state's type."""
        product = tf.matmul(tf.cast(state, self.compute_dtype), tf.cast(self.recurrent, self.compute_dtype))
        return tf.cast(product, state.dtype)

    def get_config(self) -> dict:
        return super().get_config() | {"width": self.width}


class LSTMCell(RecurrentCell):
    """State (h, c): c = f * c + i * g, h = o * tanh(c). Forget gates start with bias 1 (Jozefowicz et al. 2015)."""

    gates, tensors = 4, 2

    def first_bias(self, shape: tuple[int], dtype: tf.DType) -> tf.Tensor:
        return tf.concat([tf.zeros([self.width], dtype), tf.ones([self.width], dtype), tf.zeros([2 * self.width], dtype)], 0)

    def advance(self, projected: tf.Tensor, state: State) -> State:
        hidden, kept = state
        i, f, o, g = tf.split(tf.cast(projected, hidden.dtype) + self._recur(hidden), 4, -1)
        kept = tf.sigmoid(f) * kept + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(kept), kept


class GRUCell(RecurrentCell):
    """State (h,): h = z * h + (1 - z) * n with n = tanh(W x + r * (U h + b)).

    The reset gate acts on the product U h, as in cuDNN, not on h: one recurrent product a step instead of two.
    """

    gates, tensors = 3, 1

    def build(self, shape: tf.TensorShape) -> None:
        super().build(shape)
        self.reset_bias = self.add_weight("reset_bias", (self.width,), initializer="zeros")

    def advance(self, projected: tf.Tensor, state: State) -> State:
        (hidden,) = state
        x_r, x_z, x_n = tf.split(tf.cast(projected, hidden.dtype), 3, -1)
        h_r, h_z, h_n = tf.split(self._recur(hidden), 3, -1)
        new = tf.tanh(x_n + tf.sigmoid(x_r + h_r) * (h_n + tf.cast(self.reset_bias, hidden.dtype)))
        update = tf.sigmoid(x_z + h_z)
        return (update * hidden + (1.0 - update) * new,)


CELLS: dict[str, type[RecurrentCell]] = {"lstm": LSTMCell, "gru": GRUCell}


def scan(
    cell: RecurrentCell, inputs: tf.Tensor, state: State, mask: tf.Tensor | None = None, reverse: bool = False
) -> tuple[tf.Tensor, State]:
    """Runs a cell over a sequence.

    Args:
      inputs: [B, L, E]. state: before the first position read. mask: [B, L] bool; the state passes unread positions unchanged,
        so padding behind a text matters in neither direction.
      reverse: read from the last position to the first.

    Returns:
      [B, L, D] the outputs, each at its position (at a padded one whatever the state was), and the state after the last one read.
    """
    elements = [tf.transpose(cell(inputs), [1, 0, 2])]  # --> [L, B, gates * D]: tf.scan runs over the first axis
    if mask is not None:
        elements.append(tf.transpose(mask)[:, :, None])  # --> [L, B, 1]

    def step(state: State, now: list[tf.Tensor]) -> State:
        new = cell.advance(now[0], state)
        return new if mask is None else tuple(tf.where(now[1], after, before) for after, before in zip(new, state, strict=True))

    states = tf.scan(step, elements, state, reverse=reverse)
    return tf.transpose(states[0], [1, 0, 2]), tuple(tensor[0 if reverse else -1] for tensor in states)


class BidirectionalEncoder(keras.layers.Layer):
    """Layers of two cells each, one reading forwards, one backwards; each layer reads both outputs of the one below.

    Args:
      kind: a name in `CELLS`. width: D of each direction. layers: how many. dropout: rate, on each layer's input and on the outputs.
    """

    def __init__(self, kind: str, width: int, layers: int = 1, dropout: float = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kind, self.width, self.layers, self.dropout = kind, width, layers, dropout
        self.forwards = [CELLS[kind](width, name=f"forwards_{i}") for i in range(layers)]
        self.backwards = [CELLS[kind](width, name=f"backwards_{i}") for i in range(layers)]

    def call(self, inputs: tf.Tensor, mask: tf.Tensor, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads texts in both directions.

        Args:
          inputs: [B, L, E]. mask: [B, L] bool.

        Returns:
          [B, L, 2 D] outputs of the last layer; [B, 2 D * tensors] its last states: forwards after the last piece, backwards after
          the first.
        """
        outputs = dropout(inputs, self.dropout, noise)
        for ways in zip(self.forwards, self.backwards, strict=True):
            zero = ways[0].zero(dimension(inputs))
            read = [scan(cell, outputs, zero, mask, reverse) for cell, reverse in zip(ways, (False, True), strict=True)]
            outputs = dropout(tf.concat([found for found, _ in read], -1), self.dropout, noise)
        return outputs, tf.concat([tensor for _, state in read for tensor in state], -1)

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in ("kind", "width", "layers", "dropout")}


class RecurrentDecoder(keras.layers.Layer):
    """Layers of one cell each, whose first states are computed from a condition.

    Args:
      kind, width, layers, dropout: as of `BidirectionalEncoder`.
    """

    def __init__(self, kind: str, width: int, layers: int = 1, dropout: float = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kind, self.width, self.layers, self.dropout = kind, width, layers, dropout
        self.cells = [CELLS[kind](width, name=f"cell_{i}") for i in range(layers)]
        self.first = keras.layers.Dense(CELLS[kind].tensors * layers * width, "tanh", name="first")

    def begin(self, condition: tf.Tensor) -> tuple[State, ...]:
        """Computes the first state of each layer from a condition [B, C]."""
        tensors = tf.split(tf.cast(self.first(condition), self.variable_dtype), self.layers * self.cells[0].tensors, -1)
        return tuple(tuple(tensors[i :: self.layers]) for i in range(self.layers))

    def call(self, inputs: tf.Tensor, states: tuple[State, ...], noise: Noise | None = None) -> tf.Tensor:
        """Computes the outputs [B, T, D] for whole targets [B, T, E] (teacher forcing)."""
        outputs = dropout(inputs, self.dropout, noise)
        for cell, state in zip(self.cells, states, strict=True):
            outputs = dropout(scan(cell, outputs, state)[0], self.dropout, noise)
        return outputs

    def step(self, inputs: tf.Tensor, states: tuple[State, ...]) -> tuple[tf.Tensor, tuple[State, ...]]:
        """Computes one position of every row from its input [rows, E]. Returns the outputs [rows, D] and the states after it."""
        outputs, after = inputs, []
        for cell, state in zip(self.cells, states, strict=True):
            after.append(cell.advance(cell(outputs), state))
            outputs = after[-1][0]
        return outputs, tuple(after)

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in ("kind", "width", "layers", "dropout")}


def _orthogonal_blocks(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """Initialises [D, gates * D] with an orthogonal matrix for each gate."""
    return tf.concat([keras.initializers.Orthogonal()((shape[0], shape[0]), dtype) for _ in range(shape[1] // shape[0])], 1)
