"""Packages that import their names on first use: what they promise is there for all."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "StrokeLesionSeg" / "StrokeLesionSegLib"
PACKAGES = sorted(
    path.parent.name
    for path in LIB.glob("*/__init__.py")
    if "lazy_names(" in path.read_text(encoding="utf-8")
)


def test_there_are_such_packages() -> None:
    assert {"cohort", "images", "inference", "report"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_and_shown(package: str) -> None:
    module = importlib.import_module(f"StrokeLesionSegLib.{package}")
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert vars(module)[name] is value, "kept, so that it is looked up once"
    with pytest.raises(AttributeError, match=f"'StrokeLesionSegLib.{package}' has no attribute"):
        _ = module.no_such_name
    assert not hasattr(module, "no_such_name")


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package: str) -> None:
    """From the same modules as at run time."""
    tree = ast.parse((LIB / package / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n)]
    seen = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    home = ast.literal_eval(call.args[1])
    assert seen == home
    module = importlib.import_module(f"StrokeLesionSegLib.{package}")
    assert sorted(module.__all__) == sorted(home)


@pytest.mark.parametrize("package", PACKAGES)
def test_listing_the_names_imports_nothing(package: str) -> None:
    code = (
        f"import sys, StrokeLesionSegLib.{package} as p; before = set(sys.modules); dir(p); "
        "print(sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIB.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "[]\n"
