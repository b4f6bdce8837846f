"""Fixtures of the cohort tests: a tiny model, and the small volumes of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_fixtures import home, model_home, no_network_timed

__all__ = ["home", "model_home", "no_network_timed"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a batch writes; not there yet."""
    return tmp_path / "out"
