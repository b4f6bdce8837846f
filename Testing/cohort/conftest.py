"""Fixtures of the cohort tests: a tiny model, and the small volumes of the command line's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))


@pytest.fixture(scope="session")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's data folder with the model ``tiny``."""
    import cli_support

    folder = tmp_path_factory.mktemp("home")
    cli_support.write_tiny_model(folder)
    return folder


@pytest.fixture
def home(model_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``model_home``, in use."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(model_home))
    return model_home
