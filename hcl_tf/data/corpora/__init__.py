"""Reads raw files into examples: formats, splits, negatives."""
