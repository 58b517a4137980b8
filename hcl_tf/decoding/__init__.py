"""Search for the best output."""
