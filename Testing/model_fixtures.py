"""A user's data folder with a tiny model, for the conftest of every area that runs the engine."""

from __future__ import annotations

from pathlib import Path

import cli_support
import pytest
from StrokeLesionSegLib.commands import info


@pytest.fixture(scope="module")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's data folder with the model ``tiny``."""
    folder = tmp_path_factory.mktemp("home")
    cli_support.write_tiny_model(folder)
    return folder


@pytest.fixture
def home(model_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``model_home``, in use."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(model_home))
    return model_home


@pytest.fixture
def no_network_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``info`` without two runs of the network that ships, for which it is asked elsewhere."""
    monkeypatch.setattr(info, "_expected_seconds", lambda model, device: 1.0)
