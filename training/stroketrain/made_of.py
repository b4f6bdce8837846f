"""What the contents of a folder were made of, kept beside them.

A command that is asked for something else than what it finds there would take the one for the
other, and refuses the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import read_json_object, write_json_object

RECORD = "asked.json"


def keep_made_of(record: Path, asked: Mapping[str, Any], *, holds: str, there: bool) -> None:
    """Write ``asked``, JSON-ready, to ``record`` in the folder whose contents it makes.

    ``there``: whether some of them are there already. ``holds``: what they are if ``record`` says
    otherwise, as in "a run of another kind"; then ``InputError`` is raised, which names what
    differs. What an earlier version has not written down is not compared.
    """
    wanted = json.loads(json.dumps(asked))
    kept = read_json_object(record) if there else {}
    others = [name for name in wanted if name in kept and kept[name] != wanted[name]]
    if others:
        raise InputError(
            record.parent,
            f"holds {holds} ({', '.join(others)})",
            "Go on with it by the same command, or name another folder",
        )
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json_object(record, {**kept, **wanted})
