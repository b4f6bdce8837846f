"""Which part of the engine may know which (see CONTRIBUTING.md), read off the sources."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIB = REPOSITORY / "StrokeLesionSeg" / "StrokeLesionSegLib"
NAME = "StrokeLesionSegLib"

# A part is a folder or a top module of the Lib. What is not listed may be imported by nobody but
# itself. Everybody may import these:
EVERYWHERE = {
    "boxes",
    "brief",
    "calibration",
    "errors",
    "file_formats",
    "outputs",
    "resources",
    "lazy",
    "once",
    "operating_point",
    "spaces",
    "walk",
    "",
}
PARTS = {"images", "networks", "models", "inference", "lesions"}
MAY_IMPORT = {
    "boxes": set(),
    "brief": set(),
    "calibration": set(),
    "errors": set(),
    "file_formats": set(),
    "lazy": set(),
    "once": set(),
    "resources": set(),
    "operating_point": set(),
    "outputs": set(),
    "spaces": set(),
    "walk": set(),
    "images": set(),
    "networks": set(),
    "lesions": set(),
    "models": {"networks"},
    "inference": {"images", "networks", "models"},
    "sample_scan": {"images"},
    "correction": PARTS - {"networks"},
    "learning": {"outputs", "correction", "cohort", "input_check", *PARTS},
    "atlases": {"images", "lesions"},
    "report": {"outputs", "images", "lesions"},
    "input_check": {"images"},
    "pipeline": {"outputs", "report", "input_check", "atlases", *PARTS},
    "cohort": {"outputs", "pipeline", "report", "atlases", *PARTS},
    "commands": {
        "outputs",
        "atlases",
        "pipeline",
        "report",
        "cohort",
        "learning",
        "sample_scan",
        *PARTS,
    },
    "api": {"outputs", "pipeline", "atlases", *PARTS},
    "cli": {"commands"},
    "__main__": {"cli"},
    "__init__": set(),
    "slicerbridge": {
        "outputs",
        "pipeline",
        "input_check",
        "sample_scan",
        "report",
        "atlases",
        "cohort",
        "cli",
        "correction",
        *PARTS,
    },
}
# Rooms within a part: which others of the same part each may know.
ROOMS = {
    ("images", "formats"): set(),
    ("images", "space"): set(),
    ("learning", "strokes"): set(),
    ("learning", "adapt"): {"strokes"},
    ("slicerbridge", "scene"): set(),
    ("slicerbridge", "engine"): {"scene"},
    ("slicerbridge", "module"): {"scene", "engine"},
    ("slicerbridge", "editor"): {"scene", "engine"},
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


def within_the_lib(path: Path) -> list[list[str]]:
    """What a file imports of the Lib, as lists of names: ``["images", "space", "resample"]``."""
    split = [module.split(".") for module in sorted(imported_modules(path))]
    return [pieces[1:] for pieces in split if pieces[0] == NAME and len(pieces) > 1]


def test_parts_know_only_what_they_may() -> None:
    parts = {part_of(file) for file in lib_files()}
    assert not parts - set(MAY_IMPORT), "give a new part its place in MAY_IMPORT"
    wrong = []
    for path in lib_files():
        part = part_of(path)
        allowed = MAY_IMPORT[part] | EVERYWHERE | {part}
        for pieces in within_the_lib(path):
            if pieces[0] in parts - allowed:
                wrong.append(f"{path.relative_to(LIB)} must not import {'.'.join(pieces)}")
    assert not wrong, "\n".join(wrong)


def test_rooms_of_a_part_know_only_what_they_may() -> None:
    wrong = []
    for path in lib_files():
        room = path.relative_to(LIB).parent.parts
        if room not in ROOMS:
            continue
        rooms = {other[1] for other in ROOMS if other[0] == room[0]} - {room[1]}
        for pieces in within_the_lib(path):
            if pieces[0] == room[0] and set(pieces[1:2]) & (rooms - ROOMS[room]):
                wrong.append(f"{path.relative_to(LIB)} must not import {'.'.join(pieces)}")
    assert not wrong, "\n".join(wrong)
    assert {path.relative_to(LIB).parent.parts for path in lib_files()} >= set(ROOMS)


def test_no_modules_import_one_another() -> None:
    """Neither at the top nor in functions nor for type checking; packages' own names aside."""
    files = {
        ".".join((NAME, *path.relative_to(LIB).with_suffix("").parts)): path
        for path in lib_files()
        if path.name != "__init__.py"
    }
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, path in files.items():
        sorter.add(name, *(imported_modules(path) & set(files) - {name}))
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_reaches_out_of_the_lib() -> None:
    wrong = []
    for path in lib_files():
        foreign = (
            {"stroketrain"} if part_of(path) == "slicerbridge" else {"stroketrain", *SLICER_ONLY}
        )
        for module in sorted(roots(imported_modules(path)) & foreign):
            wrong.append(f"{path.relative_to(LIB)} must not import {module}")
    assert not wrong, "\n".join(wrong)


def test_slow_and_optional_packages_are_imported_where_used() -> None:
    wrong = []
    for path in lib_files():
        where = path.relative_to(LIB)
        found = roots(imported_modules(path, top_only=True))
        slow = found & NOT_AT_THE_TOP
        if part_of(path) == "networks":
            slow -= {"torch"}
        if slow == {"torch"}:
            # Modules that are nothing without torch may import it at their top, if their package
            # imports them late; the subprocess test below holds that.
            package = imported_modules(path.parent / "__init__.py", top_only=True)
            if ".".join((NAME, *where.with_suffix("").parts)) not in package:
                slow = set()
        wrong += [f"{where}: import {name} inside the functions that use it" for name in slow]
        wrong += [f"{where}: {name} is not there inside Slicer" for name in found & OPTIONAL]
    assert not wrong, "\n".join(wrong)


CHEAP = ["", ".images", ".models", ".lesions", ".inference", ".inference.device", ".pipeline"]
CHEAP += [
    ".api",
    ".boxes",
    ".report",
    ".cli",
    ".commands.segment",
    ".outputs",
    ".correction",
    ".correction.session",
]


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
