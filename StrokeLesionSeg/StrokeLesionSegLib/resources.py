"""Where the files that ship with the extension lie: models, template, terminologies."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

# Beside the Lib in the source tree and in an installed extension; inside it in a Python wheel.
_ROOTS = (_HERE.parent / "Resources", _HERE / "Resources")


def resource_path(*parts: str) -> Path:
    """Path of a shipped resource, for example ``resource_path("Models", "NAME")``.

    Raises ``FileNotFoundError`` if no such resource was packaged.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"resource {'/'.join(parts)} is missing from this installation")
