"""Offscreen widgets over Slicer's real libraries; skipped where Qt's own libraries are missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parents[1] / "slicer"):
    sys.path.insert(0, str(folder))

# The path has to be set first; the fixtures are those of the tests on slicer-core.
from panel_support import coarse_sample, first_entry, panel, ready, whole_sample  # noqa: E402
from slicer_fixtures import (  # noqa: E402
    home_with_fluid,
    model_home,
    skip_for_libraries,
    slicer,
    slicer_core,
)

__all__ = [
    "coarse_sample",
    "first_entry",
    "home_with_fluid",
    "model_home",
    "panel",
    "ready",
    "slicer",
    "slicer_core",
    "whole_sample",
]


@pytest.fixture(scope="session", autouse=True)
def qt_libraries() -> None:
    """Skip with the names of the Debian packages that are missing."""
    pytest.importorskip("PySide6", reason="PySide6-Essentials is missing")
    try:
        import pythonqt_stand_in  # noqa: F401
    except ImportError as error:
        skip_for_libraries("Qt", error)
