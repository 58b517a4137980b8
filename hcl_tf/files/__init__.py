"""Writes files that are whole or not there, and fetches published ones. Nothing here knows what is in them."""
