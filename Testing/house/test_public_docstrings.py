"""Every public name has a docstring in numpydoc's form with an example, and the examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_manifest import model_manifest
from StrokeLesionSegLib.models import store, write_model
from StrokeLesionSegLib.networks import build_network

LIB = Path(__file__).resolve().parents[2] / "StrokeLesionSeg" / "StrokeLesionSegLib"
# numpydoc's, in its order.
SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "Examples")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@cache
def public_names() -> list[tuple[str, str]]:
    """(module, name) of everything that a module of the Lib lists in ``__all__``."""
    found = []
    for path in sorted(LIB.rglob("*.py")):
        parts = path.relative_to(LIB.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = getattr(node, "targets", [None])[0]
            if isinstance(names, ast.Name) and names.id == "__all__":
                assert isinstance(node, ast.Assign)
                found += [(module, name) for name in ast.literal_eval(node.value)]
    return found


@cache
def documented() -> dict[str, Any]:
    """Public functions and classes by their full name, each once."""
    found = {}
    for module, name in public_names():
        value = getattr(importlib.import_module(module), name)
        if inspect.isfunction(value) or inspect.isclass(value):
            found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def constants() -> list[tuple[str, str]]:
    """Public names that are neither functions nor classes nor modules."""
    values = {n: getattr(importlib.import_module(n[0]), n[1]) for n in public_names()}
    return [n for n, v in values.items() if not (callable(v) or inspect.ismodule(v))]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is small enough for an example, in place of the shipped one."""
    spec = {"name": "unet", "in_channels": 1, "filters": [2, 2, 2, 2, 2]}
    folder = tmp_path_factory.mktemp("models") / "tiny"
    manifest = model_manifest("tiny", spec, channels=["t1"])
    write_model(folder, manifest, build_network(spec).state_dict())
    return folder


def test_the_list_is_that_of_the_packages() -> None:
    assert {"segment_volume", "read_scan", "find_lesions", "run_batch", "scan_report"} <= {
        name for _, name in public_names()
    }


@pytest.mark.parametrize("name", sorted(documented()))
def test_a_docstring_is_complete_and_its_example_runs(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = inspect.getdoc(documented()[name]) or ""
    headings = re.findall(r"^(\w+)\n(-+)$", text, re.MULTILINE)
    assert all(len(heading) == len(line) for heading, line in headings)
    order = [SECTIONS.index(heading) for heading, _ in headings]
    assert order == sorted(order)
    assert headings, "no section"
    assert headings[-1][0] == "Examples", "no example"
    monkeypatch.setattr(store, "_default_model", lambda: tiny_model)
    monkeypatch.setenv(store.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {"np": np}, name, None, 0)
    assert test.examples
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    assert not told, "".join(told)


def test_the_other_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of modules that list no ``__all__``."""
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    names = []
    for path in sorted(LIB.rglob("*.py")):
        parts = path.relative_to(LIB.parent).with_suffix("").parts
        if "slicerbridge" in parts or ">>>" not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(".".join(p for p in parts if p != "__init__"))
        for test in doctest.DocTestFinder().find(module):
            if test.examples and test.name not in documented():
                names.append(test.name)
                doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    assert {"StrokeLesionSegLib.file_formats.format_of"} <= set(names)
    assert not told, "".join(told)


def test_a_public_constant_says_what_it_is() -> None:
    wrong = []
    for module, name in constants():
        path = LIB.joinpath(*module.split(".")[1:])
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        if not re.search(rf"^#: .*\n(?:#.*\n)*(?:\w+, )*{name}\b", text, re.MULTILINE):
            wrong.append(f"{module}.{name}")
    assert not wrong
