"""Fixtures of the tests of trainings."""

from __future__ import annotations

import pytest
from stroketrain.volumetric import stream


@pytest.fixture
def first_scan_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of simulated scans draws one head before it gives the first, and not three that
    are mixed."""
    monkeypatch.setattr(stream, "_APART", 2)
