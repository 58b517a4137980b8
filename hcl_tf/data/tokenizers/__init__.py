"""Texts to pieces and back."""
