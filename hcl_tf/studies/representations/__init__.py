"""Figure 3: representations before and after training (python -m hcl_tf.studies.representations)."""
