"""Installs hcl_tf; requirements.txt is the one list of dependencies."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REQUIREMENTS = [line for line in (HERE / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "hcl_tf" / "__init__.py").read_text())[1]

setup(
    name="hcl_tf",
    version=VERSION,
    description="Hierarchical contrastive learning for text generation (Li et al., ACL 2022) in TensorFlow 2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["hcl_tf", "hcl_tf.*"]),
    package_data={
        "hcl_tf.data": ["samples/*.jsonl", "samples/grammars/*.yaml"],
        "hcl_tf.reporting": ["templates/*"],
        "hcl_tf.serving": ["templates/*"],
        "hcl_tf.studies.human_evaluation": ["templates/*"],
    },
    install_requires=REQUIREMENTS,
    extras_require={
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.29,<2", "latex2mathml>=3.77,<4"],
        "gpu": ["tensorflow[and-cuda]==2.19.1"],
        "portable": ["jax>=0.10,<0.12; python_version >= '3.11'"],
        "dev": [
            "pytest>=8,<10",
            "hypothesis>=6.100,<7",
            "ruff>=0.6,<0.17",
            "import-linter>=2.7,<3",
            "pre-commit>=3.7,<5",
            "psutil>=6,<8",
            "nbclient>=0.10,<0.12",
            "ipykernel>=6.29,<8",
            "pytest-xdist>=3.6,<4",
            "jax>=0.10,<0.12; python_version >= '3.11'",
        ],
    },
)
