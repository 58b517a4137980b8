"""Names that become part of a path."""


def is_plain(name: str) -> bool:
    """Says whether a name stays in the folder that it is put into, is not hidden there, and is not taken for a flag.

    Letters of any script, spaces and quotes are fine: files may have them.
    """
    return bool(name) and name.isprintable() and name[0] not in ".-" and not set(name) & set("/\\")
