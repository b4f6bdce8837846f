"""The process that reads a checkpoint, forked from one that has imported torch already.

Each installation asks for one process a fold and one more, and to import torch is nearly all that
they do. Here they are the same code in processes of their own, with everything that ``ask`` makes
of their output; that a new interpreter can be started is asked by tests that leave this out.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

import pytest
from StrokeLesionSegLib.models.foreign import child

_MODULE = "StrokeLesionSegLib.models.foreign.checkpoint_child"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", _MODULE, "StrokeLesionSegLib.models.load"])


def _answer(arguments: list[str], back: Connection) -> None:
    from StrokeLesionSegLib.models.foreign.checkpoint_child import main

    out, error, code = io.StringIO(), io.StringIO(), 1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main(arguments)
        except Exception as failure:
            print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
    back.send((code, out.getvalue(), error.getvalue()))


def _run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    assert command[:3] == [sys.executable, "-m", _MODULE]
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_answer, args=(command[3:], theirs))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        answer = (-1, "", "")
    process.join()
    return subprocess.CompletedProcess(command, *answer)


class _Subprocess:
    """What ``child`` needs of ``subprocess``."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired
    run = staticmethod(_run)


def use(patch: pytest.MonkeyPatch) -> None:
    """From now on in this test, where the system can fork."""
    if hasattr(os, "fork"):
        patch.setattr(child, "subprocess", _Subprocess)


def leave(patch: pytest.MonkeyPatch) -> None:
    """From now on in this test a new interpreter, as a user's."""
    patch.setattr(child, "subprocess", subprocess)
