"""Uses trained runs: texts in and out, a SavedModel, the demo page."""
