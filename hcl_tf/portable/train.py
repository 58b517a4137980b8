"""Trains an exported system with JAX, on a machine that need not have TensorFlow:

python -m hcl_tf.portable.train --bundle=BUNDLE --system=hcl --out=RESULTS
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError

BUNDLE = flags.DEFINE_string("bundle", None, "A folder that hcl_tf.portable.export wrote.")
SYSTEM = flags.DEFINE_string("system", None, "Which of its systems.")
OUT = flags.DEFINE_string("out", None, "Where the results go, a new or empty folder.")
MINUTES = flags.DEFINE_float("minutes", 0.0, "Stop training after so many minutes, and decode then; 0: never.", lower_bound=0.0)


def main() -> None:
    """Runs the command that the flags ask for."""
    if not (BUNDLE.value and SYSTEM.value and OUT.value):
        raise UserError("--bundle, --system and --out are needed")
    from hcl_tf.portable import bundle

    part, out = bundle.read(Path(BUNDLE.value), SYSTEM.value), Path(OUT.value)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out={out}: not an empty folder; choose a new one")
    try:
        from hcl_tf.portable.loop import train
    except ModuleNotFoundError as error:
        raise UserError(
            f"needs {error.name}; pip install jax scipy tqdm absl-py safetensors, with JAX for this machine's devices"
        ) from error

    train(part, out, MINUTES.value)


if __name__ == "__main__":
    cli.run(main)
