"""A small disk (the fixture ``small_disk``) on which no byte is left."""

from __future__ import annotations

from pathlib import Path


def fill(disk: Path) -> Path:
    """Leave no byte on it; returns the file that takes them."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return filler
