"""Writes, verifies and reads prepared folders."""
