"""What a finished run is worth: scores, figures, outputs for people."""
