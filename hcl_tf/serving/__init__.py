"""A trained run in use: texts in and out, a SavedModel, the demo page."""
