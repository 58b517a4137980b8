"""Experiments on trained runs, each a package with a command: human evaluation, keyword control, representations."""
