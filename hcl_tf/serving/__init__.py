"""Uses trained runs: texts in and out by command and from Python, a SavedModel, the demo page."""
