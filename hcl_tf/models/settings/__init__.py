"""What each system can be told: a frozen dataclass beside the system of the same file name in hcl_tf/models/.

Nothing here imports TensorFlow, so flags are made and checked before it is loaded.
"""
