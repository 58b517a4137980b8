"""Many rows beside each other and beside the paper: tables, claims, verdicts, pages."""
