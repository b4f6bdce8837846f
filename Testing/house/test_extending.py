"""The recipes of docs/extending.md are run as they stand."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from StrokeLesionSegLib import cli, file_formats

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
RECIPES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.M)


@pytest.mark.parametrize("recipe", RECIPES, ids=["network", "loss", "format", "command"])
def test_a_recipe_runs(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "stroketrain" in recipe:
        pytest.importorskip("monai")
        from stroketrain.papers import losses

        monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    from StrokeLesionSegLib.networks import build

    monkeypatch.setattr(build, "NETWORKS", dict(build.NETWORKS))
    monkeypatch.setattr(file_formats, "FORMATS", dict(file_formats.FORMATS))
    monkeypatch.setattr(cli, "COMMANDS", cli.COMMANDS)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("a_recipe")
    monkeypatch.setitem(sys.modules, "a_recipe", module)
    monkeypatch.setitem(sys.modules, "StrokeLesionSegLib.commands.hello", module)
    exec(compile(recipe, str(PAGE), "exec"), vars(module))
