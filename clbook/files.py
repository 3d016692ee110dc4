"""Write files so that they appear whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file beside its place, then move it there: a crash or a full disk leaves the old one whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
