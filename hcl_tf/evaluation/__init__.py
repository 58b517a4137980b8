"""What one finished run is worth: its outputs, scores, diagnostics, and the row that is kept of it."""
