"""Trains on data whose answer is known beforehand, and compares what is found with it (python -m hcl_tf.studies.controls)."""
