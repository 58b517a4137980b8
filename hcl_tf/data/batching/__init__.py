"""Divides splits into batches, in an order that depends on the seed."""
