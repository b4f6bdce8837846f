"""Fixtures of the tests of commands."""

from __future__ import annotations

from pathlib import Path

import cli_support
import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed models that holds the tiny one."""
    folder = tmp_path_factory.mktemp("home")
    cli_support.write_tiny_model(folder)
    return folder


@pytest.fixture
def with_tiny_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are those of ``home``."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home))
