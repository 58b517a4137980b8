"""Scores generated text; each score has a signature that tells how it was computed."""
