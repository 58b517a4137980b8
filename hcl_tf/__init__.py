"""HCL: hierarchical contrastive learning for text generation (Li et al., ACL 2022), in TensorFlow 2."""

__version__ = "0.4.0"

# Raised whenever the same run would come out with other bits. A run goes on bit for bit within one version of the arithmetic; under another
# it goes on and says so (training/run_folder.py). What changed with each stands in CHANGELOG.md.
ARITHMETIC = 3
