"""Describes the machine and the versions that a result depends on. TensorFlow is imported only to ask for the GPUs."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import hcl_tf

PACKAGES = (
    "tensorflow", "tf-keras", "tensorflow-probability", "tf-models-official", "transformers", "tokenizers", "safetensors", "numpy",
    "scipy", "spacy", "pytextrank", "jieba", "nltk", "sacrebleu", "jax", "jaxlib",
)  # fmt: skip
# Environment variables that change the numbers or the speed. None of them holds a path.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def describe_environment(gpus: list[str] | None = None) -> dict[str, Any]:
    """Returns the machine and the versions that a result depends on, as a JSON dict without user name, host name or paths.

    Args:
      gpus: the names of the GPUs; None: TensorFlow is asked for those that it can use.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"name": _cpu_name(), "cores": os.cpu_count(), "cores_usable": len(os.sched_getaffinity(0))},
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpus": _gpus() if gpus is None else gpus,
        "packages": {name: _version(name) for name in PACKAGES} | {"hcl_tf": hcl_tf.__version__},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "commit": _commit(Path(hcl_tf.__file__).parents[1]),
        "arithmetic": hcl_tf.ARITHMETIC,
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Returns the names of the GPUs that TensorFlow can use, which may be fewer than the machine has."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    return [str(tf.config.experimental.get_device_details(device).get("device_name", "unknown")) for device in devices]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


TRAINED_FROM = ("hcl_tf", "experiments", "requirements.txt", "pyproject.toml", ":(exclude)experiments/reports")  # of a checkout


def _commit(root: Path) -> dict[str, Any] | None:
    """Returns the commit of the git checkout in `root`, and whether code or experiments differ from it; None without a checkout or git.

    Reports, and files that a user has put beside the code, change no training.
    """
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"id": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *TRAINED_FROM))}
    except (OSError, subprocess.CalledProcessError):
        return None
