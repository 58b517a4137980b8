"""Turns a raw corpus into verified TFRecords, and these into batches."""
