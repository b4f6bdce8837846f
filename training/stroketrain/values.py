"""Values of options, checked where they are read, and options that would have no effect."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.commands.options import number
from StrokeLesionSegLib.errors import InputError

_MANY = 10**9

#: A number of things, of which there is at least one.
count = number(1, _MANY, kind=int)
#: The same, or none; seeds are such, too.
whole = number(0, _MANY, kind=int)
#: 0 to 1.
share = number(0, 1)
#: Between the two, as probabilities that decide are.
threshold = number(0, 1, open_ends=True)
#: A volume, a weight or a time; the latter two are read by this, too, where 0 has a meaning.
amount = number(0, _MANY)
#: The same without 0.
positive = number(0, _MANY, open_ends=True)


def refuse(a: argparse.Namespace, names: Sequence[str], why: str, advice: str) -> None:
    """Raises ``InputError`` for the first of the options that was given another value.

    ``a.plain`` is the parser that knows the usual ones.
    """
    for name in names:
        if getattr(a, name) != a.plain.get_default(name):
            raise InputError(f"--{name.replace('_', '-')}", why, advice)


def json_object(file: Path | None) -> dict[str, Any]:
    """What a file of JSON holds, nothing if there is none; ``InputError`` if it is no object."""
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", "Name a file of JSON") from error
    if not isinstance(content, dict):
        raise InputError(file, "is JSON, but no object", "Give names and values in braces")
    return content
