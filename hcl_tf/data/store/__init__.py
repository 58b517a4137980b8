"""The prepared folder: written, verified, read."""
