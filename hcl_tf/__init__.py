"""HCL: hierarchical contrastive learning for text generation (Li et al., ACL 2022), in TensorFlow 2.

    import hcl_tf

    model = hcl_tf.load("runs/qqp/hcl")  # serving/model.py says what it can do
    model.generate(["How can I lose weight?"], keywords=[["belly", "fat"]])

    hcl_tf.metrics.bleu.score(["a text"], ["its reference"])

TensorFlow is imported by the first `load`, not before.
"""

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

from hcl_tf.errors import UserError

if TYPE_CHECKING:
    from hcl_tf.serving.model import Model

__all__ = ["ARITHMETIC", "UserError", "__version__", "load", "metrics"]

__version__ = "0.5.0"

# Raised whenever the same run would come out with other bits. A run goes on bit for bit within one version of the arithmetic; under another
# it goes on and says so (training/run_folder.py). What changed with each stands in CHANGELOG.md.
ARITHMETIC = 5


def load(path: str | PathLike, checkpoint: str | None = None) -> "Model":
    """Opens a trained run, or an exported one, for use from Python. The first call imports TensorFlow, which takes some seconds.

    Opening a run seeds the global random generators of Python, NumPy and TensorFlow with the run's seed.

    Args:
      path: the folder that `python -m hcl_tf.train` wrote, or `python -m hcl_tf.generate --export`.
      checkpoint: of a run; None: best_loss, the paper's choice. An export holds one checkpoint, and takes None alone.

    Returns:
      The model (`hcl_tf.serving.model.Model`), with `generate`, `keywords`, `prior` and `score`.

    Raises:
      UserError: the folder holds neither, or something of it is missing or damaged; the text says which and what to do.
    """
    cli = import_module("hcl_tf.cli")
    cli.quieten_libraries()
    cli.import_tensorflow()
    # By name: this file is the lowest floor, from which every module takes the version, and a run is opened on the highest.
    return import_module("hcl_tf.serving.model").load(path, checkpoint)


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("hcl_tf.metrics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
