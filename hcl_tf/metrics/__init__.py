"""Scores of generated text, each with the signature that tells how it was computed."""
