"""Fixtures of the tests of commands."""

from __future__ import annotations

import pytest
from model_fixtures import home, model_home, no_network_timed

__all__ = ["home", "model_home", "no_network_timed", "with_tiny_model"]


@pytest.fixture
def with_tiny_model(home: object) -> None:
    """Models are those of ``home``."""
