"""Fixtures of the tests with other people's models."""

from __future__ import annotations

import forked_python
import pytest
from StrokeLesionSegLib.models.foreign import child


@pytest.fixture(autouse=True)
def checkpoints_are_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By forked processes, where no test is about starting one: each installation asks for one a
    fold and one more, and to import torch is nearly all that they do."""
    monkeypatch.setattr(child, "subprocess", forked_python.Subprocess)
