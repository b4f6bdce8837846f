"""The fixtures of a tiny model, and the helpers of the cohort tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cohort"))

from model_fixtures import home, model_home

__all__ = ["home", "model_home"]
