"""Offscreen widgets over Slicer's real libraries; skipped where Qt's own libraries are missing."""

from __future__ import annotations

import ctypes.util
import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parents[1] / "slicer"):
    sys.path.insert(0, str(folder))

# The path has to be set first; the fixtures are those of the tests on slicer-core.
from slicer_fixtures import model_home, slicer, slicer_core  # noqa: E402

__all__ = ["model_home", "slicer", "slicer_core"]

# What PySide6 needs of the system, with the Debian packages that bring it.
_LIBRARIES = {
    "EGL": "libegl1",
    "GL": "libgl1",
    "xkbcommon": "libxkbcommon0",
    "fontconfig": "libfontconfig1",
    "dbus-1": "libdbus-1-3",
}


@pytest.fixture(scope="session", autouse=True)
def qt_libraries() -> None:
    """Skip with the names of the Debian packages that are missing."""
    pytest.importorskip("PySide6", reason="PySide6-Essentials is missing")
    try:
        import pythonqt_stand_in  # noqa: F401
    except ImportError as error:
        lacking = [p for name, p in _LIBRARIES.items() if not ctypes.util.find_library(name)]
        pytest.skip(f"Qt does not load ({error}); Debian packages: {' '.join(lacking) or '?'}")
