"""The list of files that the extension packages, written from the tree.

    python Testing/slicer/packaged_files.py          (or: make package-list)

writes ``StrokeLesionSeg/PackagedFiles.cmake``. Slicer packages only what is named; a file that is
missing there works in the source tree and is absent for users.
"""

from __future__ import annotations

from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
LIST = MODULE / "PackagedFiles.cmake"
SCRIPT_FOLDERS = ("StrokeLesionSegLib", "StrokeLesionSegEffects", "stroke_lesion_seg")
# Images, forms and whatever else lies beside scripts, such as the page and style of the report.
_IGNORED = {".pyc", ".pyo", ".swp", ".tmp"}


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(MODULE).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix not in _IGNORED
        and "__pycache__" not in path.parts
        and not any(part.startswith(".") for part in path.relative_to(MODULE).parts)
    )


def in_tree() -> tuple[list[str], list[str]]:
    """(scripts, resources) that have to be packaged, relative to the module's folder."""
    inside = [name for folder in SCRIPT_FOLDERS for name in _files(MODULE / folder)]
    scripts = ["StrokeLesionSeg.py", *(n for n in inside if n.endswith(".py"))]
    resources = [n for n in inside if not n.endswith(".py")] + _files(MODULE / "Resources")
    return scripts, resources


def text() -> str:
    """What the list has to say."""
    parts = ["# Written by Testing/slicer/packaged_files.py (make package-list).\n"]
    for name, files in zip(("SCRIPTS", "RESOURCES"), in_tree(), strict=True):
        lines = "".join(f"  {file}\n" for file in files)
        parts.append(f"set(MODULE_PYTHON_{name}\n{lines}  )\n")
    return "\n".join(parts)


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
    scripts, resources = in_tree()
    print(f"{len(scripts)} scripts and {len(resources)} resources in {LIST.name}")
