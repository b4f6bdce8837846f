"""The subject split: people and masks of each part. No subject or mask is in two parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARTS = ("train", "val", "test")
SPLIT_FILE = Path(__file__).with_name("subject_split.json")


def load_subject_split(path: Path = SPLIT_FILE) -> dict[str, Any]:
    """Read and check a subject split.

    Returns ``{"people": {part: [file, ...]}, "masks": {part: [file, ...]}}``, the files relative to
    the data folder. Raises ``ValueError`` if one stands in two parts.
    """
    split = json.loads(path.read_text(encoding="utf-8"))
    for what in ("people", "masks"):
        seen: dict[str, str] = {}
        for part in PARTS:
            for name in split[what][part]:
                if name in seen:
                    raise ValueError(f"{path}: {name} is both in {seen[name]} and in {part}")
                seen[name] = part
    return split


def kind_of(file: str) -> str:
    """How a person's file is to be read: "head", "brain" or "labels"."""
    if file.startswith("labels/"):
        return "labels"
    return "brain" if "brain" in Path(file).name else "head"
