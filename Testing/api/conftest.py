"""Fixtures of the tests of the Python API: a tiny model."""

from __future__ import annotations

from model_fixtures import home, model_home

__all__ = ["home", "model_home"]
