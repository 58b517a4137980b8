"""Chooses settings of a system by trials, each a training of its own, so that every row of a comparison can be tuned as well as any."""
