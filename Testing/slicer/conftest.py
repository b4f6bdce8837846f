"""The tests of this folder run on Slicer's real libraries, without its desktop."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from slicer_fixtures import home_with_fluid, model_home, slicer, slicer_core

__all__ = ["home_with_fluid", "model_home", "slicer", "slicer_core"]
