"""Fixtures of the tests of trainings."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from stroketrain import cli
from stroketrain.volumetric import stream


@pytest.fixture(scope="session")
def drawn(kept_by_all: Path) -> Path:
    """Two scans that ``simulate`` has drawn, in the folder ``tree``, and what ``prepare`` made of
    them, ``cache``: once for all tests and processes, ten seconds' work. They stay as they are."""
    folder = kept_by_all / "drawn"
    if not folder.exists():
        own = kept_by_all / f"drawn.{os.getpid()}"
        tree, cache = str(own / "tree"), str(own / "cache")
        assert cli.main(["simulate", tree, "-n", "2", "--seed", "1", "--kinds", "cavity"]) == 0
        assert cli.main(["prepare", tree, cache]) == 0
        with contextlib.suppress(OSError):  # another process was first
            own.rename(folder)
    return folder


@pytest.fixture
def first_scan_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of simulated scans draws one head before it gives the first, and not three that
    are mixed."""
    monkeypatch.setattr(stream, "_APART", 2)
