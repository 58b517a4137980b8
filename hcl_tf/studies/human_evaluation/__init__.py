"""Table 3: lets people rate the outputs of several systems (python -m hcl_tf.studies.human_evaluation)."""
