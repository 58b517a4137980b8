"""Table 4: compares outputs under own, swapped and no keywords (python -m hcl_tf.studies.keyword_control)."""
