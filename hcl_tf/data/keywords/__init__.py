"""Extracts the keywords of texts, and builds the graph between them."""
