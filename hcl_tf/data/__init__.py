"""From a raw corpus to verified TFRecords, and from those to batches."""
