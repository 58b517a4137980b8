"""Turns texts into pieces, and pieces into texts."""
