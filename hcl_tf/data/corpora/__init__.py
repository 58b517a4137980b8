"""Raw files to examples: formats, splits, negatives."""
