"""Searches for outputs, and turns sources into texts."""
