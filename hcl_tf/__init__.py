"""HCL: hierarchical contrastive learning for text generation (Li et al., ACL 2022), in TensorFlow 2."""

__version__ = "0.1.0"
