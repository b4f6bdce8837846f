"""Which people and which masks play in which part: train, val or test. Nobody plays in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARTS = ("train", "val", "test")
SPLIT_FILE = Path(__file__).with_name("cast.json")


def load_cast(path: Path = SPLIT_FILE) -> dict[str, Any]:
    """Read and check a cast file.

    Returns ``{"people": {part: [file, ...]}, "masks": {part: [file, ...]}}``, the files relative to
    the data folder. Raises ``ValueError`` if one stands in two parts.
    """
    cast = json.loads(path.read_text(encoding="utf-8"))
    for what in ("people", "masks"):
        seen: dict[str, str] = {}
        for part in PARTS:
            for name in cast[what][part]:
                if name in seen:
                    raise ValueError(f"{path}: {name} is both in {seen[name]} and in {part}")
                seen[name] = part
    return cast


def kind_of(file: str) -> str:
    """How a person's file is to be read: "head", "brain" or "labels"."""
    if file.startswith("labels/"):
        return "labels"
    return "brain" if "brain" in Path(file).name else "head"
