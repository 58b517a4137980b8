"""The systems: what each offers (base.py), their names (registry.py), one file each."""
