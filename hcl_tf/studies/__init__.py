"""Experiments, each a package with a command: channel, controls, human evaluation, keyword control, representations."""
