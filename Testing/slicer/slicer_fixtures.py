"""Fixtures of the tests that run on Slicer's real libraries; two folders of tests share them."""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# What the wheels of VTK and PySide6 expect of the system, with the Debian packages that bring it.
_LIBRARIES = {
    "EGL": "libegl1",
    "GL": "libgl1",
    "X11": "libx11-6",
    "Xrender": "libxrender1",
    "xkbcommon": "libxkbcommon0",
    "fontconfig": "libfontconfig1",
    "dbus-1": "libdbus-1-3",
}


def skip_for_libraries(what: str, error: ImportError) -> None:
    """Skip, with the names of the Debian packages that are missing."""
    lacking = [p for name, p in _LIBRARIES.items() if not ctypes.util.find_library(name)]
    pytest.skip(f"{what} does not load ({error}); Debian packages: {' '.join(lacking) or '?'}")


@pytest.fixture(scope="session")
def slicer_core(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ``slicer`` package with scene, application and logics set up."""
    pytest.importorskip("slicer_core", reason="slicer-core is missing: pip install slicer-core")
    import headless_slicer

    try:
        return headless_slicer.start(str(tmp_path_factory.mktemp("slicer")))
    except ImportError as error:
        skip_for_libraries("slicer-core", error)


@pytest.fixture
def slicer(slicer_core: Any) -> Iterator[Any]:
    """The ``slicer`` package with an empty scene; VTK errors during the test fail it."""
    from headless_slicer import vtk_errors

    slicer_core.mrmlScene.Clear(0)
    temporary = slicer_core.app.temporaryPath
    before = len(vtk_errors(temporary))
    yield slicer_core
    slicer_core.mrmlScene.Clear(0)
    errors = vtk_errors(temporary)[before:]
    assert not errors, "VTK reported:\n" + "\n".join(errors)


@pytest.fixture(scope="session")
def home_with_fluid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user directory with the model ``fluid``."""
    pytest.importorskip("torch")
    from fluid_model import write_fluid_model

    home = tmp_path_factory.mktemp("home")
    write_fluid_model(home / "models")
    return home


@pytest.fixture
def model_home(home_with_fluid: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``home_with_fluid``, in use; the engine's processes inherit it."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home_with_fluid))
    return home_with_fluid
