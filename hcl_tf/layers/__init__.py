"""Keras layers of the method: each is one idea and knows nothing of tasks, runs or files."""
