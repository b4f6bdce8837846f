"""Which part of the engine may know which (see CONTRIBUTING.md), read off the sources."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIB = REPOSITORY / "StrokeLesionSeg" / "StrokeLesionSegLib"
NAME = "StrokeLesionSegLib"

# A part is a folder or a top module of the Lib. What is not listed may be imported by nobody but
# itself. Everybody may import these:
EVERYWHERE = {"errors", "resources", "lazy", ""}
PARTS = {"images", "networks", "models", "inference", "lesions"}
MAY_IMPORT = {
    "errors": set(),
    "lazy": set(),
    "resources": set(),
    "outputs": set(),
    "images": set(),
    "networks": set(),
    "lesions": set(),
    "models": {"networks"},
    "inference": {"images", "networks", "models"},
    "editing": PARTS - {"networks"},
    "report": {"outputs", "images", "lesions"},
    "pipeline": {"outputs", "report", *PARTS},
    "cohort": {"outputs", "pipeline", "report", *PARTS},
    "commands": {"outputs", "pipeline", "report", "cohort", *PARTS},
    "cli": {"commands"},
    "__main__": {"cli"},
    "__init__": set(),
    "slicerbridge": {"outputs", "pipeline", "report", "cohort", "cli", "editing", *PARTS},
}
SLICER_ONLY = {
    "slicer",
    "vtk",
    "vtkmodules",
    "ctk",
    "qt",
    "PythonQt",
    "mrml",
    "SegmentEditorEffects",
}
# Slow to import, or not there inside Slicer.
NOT_AT_THE_TOP = {"torch", "SimpleITK", "scipy", "pydicom", "highdicom", "nibabel"}
OPTIONAL = {"nibabel", "rich", "matplotlib", "nilearn", "safetensors", "jinja2", "psutil"}


def lib_files() -> list[Path]:
    return sorted(LIB.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(LIB)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_modules(path: Path, *, top_only: bool = False) -> set[str]:
    """Absolute dotted names that a file imports; relative imports are resolved.

    ``top_only`` leaves out imports inside functions and under ``if TYPE_CHECKING``.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = (NAME, *path.relative_to(LIB).parts[:-1])
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if top_only and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for other in child.orelse:
                    visit(other)
                continue
            visit(child)

    visit(tree)
    return found


def roots(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    """The walls would hold trivially if the walk found nothing."""
    found = imported_modules(LIB / "inference" / "device.py")
    assert f"{NAME}.errors" in found
    assert "torch" in found
    assert "torch" not in imported_modules(LIB / "inference" / "device.py", top_only=True)
    assert {part_of(file) for file in lib_files()} >= {"images", "networks", "models", "lesions"}


@pytest.mark.parametrize("path", lib_files(), ids=lambda p: str(p.relative_to(LIB)))
def test_parts_know_only_what_they_may(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{path.name}: give this new part its place in MAY_IMPORT"
    allowed = MAY_IMPORT[part] | EVERYWHERE | {part}
    known_parts = {part_of(file) for file in lib_files()}
    for module in imported_modules(path):
        pieces = module.split(".")
        if pieces[0] != NAME or len(pieces) < 2:
            continue
        if pieces[1] in known_parts:
            assert pieces[1] in allowed, f"{path}: {part} must not import {module}"


@pytest.mark.parametrize("path", lib_files(), ids=lambda p: str(p.relative_to(LIB)))
def test_nothing_reaches_out_of_the_lib(path: Path) -> None:
    found = roots(imported_modules(path))
    assert "stroketrain" not in found, f"{path}: the engine must not know the training code"
    if part_of(path) != "slicerbridge":
        assert not found & SLICER_ONLY, (
            f"{path}: only slicerbridge may import {found & SLICER_ONLY}"
        )


@pytest.mark.parametrize("path", lib_files(), ids=lambda p: str(p.relative_to(LIB)))
def test_slow_and_optional_packages_are_imported_where_used(path: Path) -> None:
    found = roots(imported_modules(path, top_only=True))
    slow = found & NOT_AT_THE_TOP
    if part_of(path) == "networks":
        slow -= {"torch"}
    if slow == {"torch"}:
        # Modules that are nothing without torch may import it at their top, if their package
        # imports them late; the subprocess test below holds that.
        package = imported_modules(path.parent / "__init__.py", top_only=True)
        own = ".".join((NAME, *path.relative_to(LIB).with_suffix("").parts))
        assert own not in package, f"{own} imports torch at its top and its package imports it"
        slow = set()
    assert not slow, f"{path}: import {slow} inside the functions that use it"
    assert not found & OPTIONAL, f"{path}: {found & OPTIONAL} is not there inside Slicer"


CHEAP = ["", ".images", ".models", ".lesions", ".inference", ".inference.device", ".pipeline"]
CHEAP += [".cli", ".commands.segment", ".outputs", ".editing", ".editing.session"]


@pytest.mark.parametrize("module", CHEAP)
def test_importing_is_cheap(module: str) -> None:
    code = f"import json, sys, {NAME}{module}; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(LIB.parent)}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    loaded = set(json.loads(output))
    assert f"{NAME}{module}" in loaded
    assert not loaded & {"torch", "SimpleITK", "scipy", "nibabel", "pydicom", "matplotlib", "rich"}


def test_training_uses_the_lib_and_not_slicer() -> None:
    files = sorted((REPOSITORY / "training" / "stroketrain").rglob("*.py"))
    assert files
    uses_lib = False
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
                if node.module.startswith(f"{NAME}.slicerbridge"):
                    pytest.fail(f"{file}: training runs without Slicer")
        assert not found & SLICER_ONLY, f"{file}: training runs without Slicer"
        uses_lib = uses_lib or NAME in found
    assert uses_lib
