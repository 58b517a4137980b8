"""Checksums of files."""

import hashlib
from pathlib import Path

BLOCK = 2**20


def sha256(path: Path) -> str:
    """Computes a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:  # hashlib.file_digest needs Python 3.11
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
