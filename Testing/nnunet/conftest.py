"""Fixtures of the tests with other people's models."""

from __future__ import annotations

import pytest
import quick_child


@pytest.fixture(autouse=True)
def checkpoints_are_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By forked processes; ``quick_child.leave`` where a test is about starting one."""
    quick_child.use(monkeypatch)
