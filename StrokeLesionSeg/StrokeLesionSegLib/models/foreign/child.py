"""Runs ``checkpoint_child`` and reads its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...errors import InputError

_MODULE = "StrokeLesionSegLib.models.foreign.checkpoint_child"
# Reading 3 GiB from a slow disk.
_LONGEST_S = 1800
_ROOT = Path(__file__).resolve().parents[3]


def ask(where: str, python: str | None, *arguments: str) -> dict[str, Any]:
    """The child's JSON. ``python``: the interpreter, None for this one.

    Raises ``InputError`` that names ``where`` if the child refuses, dies or takes too long.
    """
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    again = "Take the model from its publisher again"
    try:
        run = subprocess.run(
            [python or sys.executable, "-m", _MODULE, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(where, "reading it takes too long", again) from None
    except OSError as error:
        raise InputError(
            where,
            f"cannot be read: no Python can be started ({error.strerror})",
            "Install the model from the command line",
        ) from error
    lines = run.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
    except ValueError:
        answer = {}
    if "error" in answer:
        raise InputError(where, answer["error"], answer["remedy"])
    if run.returncode or not isinstance(answer, dict) or not answer:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1][:200]
        if "No module named 'torch'" in run.stderr:
            raise InputError(where, "cannot be read without PyTorch", "Install PyTorch first")
        raise InputError(where, f"reading it failed ({last})", again)
    return answer
