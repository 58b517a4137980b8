"""Figure 3: compares representations before and after training (python -m hcl_tf.studies.representations)."""
