"""Runs exported programs: compiles StableHLO for JAX's default device, where variables are kept by name.

JAX has no public function that takes StableHLO text, so its compiler is called as `jax.jit` calls it. This works with jaxlib 0.10.2 and
0.11.2.
"""

from typing import Any

import jax
import numpy as np
from jax._src import compiler, xla_bridge
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jaxlib.mlir import ir

from hcl_tf.portable.bundle import Program

jax.config.update("jax_enable_x64", True)  # Keras optimisers count steps in 64 bits

Values = dict[str, Any]  # name -> jax.Array


class Executable:
    """A compiled program.

    Args:
      program: its inputs and outputs. text: its StableHLO.
    """

    def __init__(self, program: Program, text: str) -> None:
        self._program = program
        backend = xla_bridge.get_backend()
        with mlir.make_ir_context():
            module = ir.Module.parse(text)
            options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
            self._run = backend.compile_and_load(module, xla_client.DeviceList(tuple(backend.local_devices()[:1])), options)

    def __call__(self, variables: Values, inputs: dict[str, np.ndarray]) -> Values:
        """Runs the program and puts the new values of variables in place, in the memory of the old ones. Returns the outputs.

        Nothing waits for the device until an output is read.
        """
        p = self._program
        arguments = [jax.device_put(np.asarray(inputs[name], order="C")) for name in p.inputs] + [variables[name] for name in p.variables]
        found = [parts[0] for parts in self._run.execute_sharded(arguments).disassemble_into_single_device_arrays()]
        if len(found) != len(p.outputs) + len(p.updates):
            raise ValueError(f"{len(found)} results, {len(p.outputs)} outputs and {len(p.updates)} updates are expected")
        variables.update(zip(p.updates, found[len(p.outputs) :], strict=True))
        return dict(zip(p.outputs, found, strict=False))


def device_name() -> str:
    """Returns the name of the device, such as "NVIDIA H100 80GB HBM3"."""
    return jax.devices()[0].device_kind


def copied(variables: Values) -> Values:
    """Copies variables into memory of their own, which no later program overwrites."""
    return {name: jax.numpy.array(value, copy=True) for name, value in variables.items()}
