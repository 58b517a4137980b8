"""Table 3: outputs of several systems rated by people (python -m hcl_tf.studies.human_evaluation)."""
