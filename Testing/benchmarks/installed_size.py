"""Installed bytes of a package and all that it requires, in one JSON line.

python Testing/benchmarks/installed_size.py stroke-lesion-seg
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(package: str) -> set[str]:
    """Canonical names of ``package`` and what it needs, as far as installed."""
    found: set[str] = set()
    waiting: list[tuple[str, str]] = [(package, "")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(canonicalize_name(name))
        for text in requires:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting.append((canonicalize_name(needed.name), ""))
                waiting += [(canonicalize_name(needed.name), part) for part in needed.extras]
    return found


def size(package: str) -> int:
    """Bytes of the files that the package installed, without compiled caches."""
    total = 0
    for file in metadata.files(package) or []:
        path = Path(str(file.locate()))
        if path.suffix != ".pyc" and path.is_file():
            total += path.stat().st_size
    return total


def main() -> None:
    package = sys.argv[1]
    sizes = {name: size(name) for name in closure(package)}
    # Installed from a checkout, the package itself lists nothing but a pointer.
    engine = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
    if canonicalize_name(package) == "stroke-lesion-seg":
        sizes["stroke-lesion-seg"] = sum(
            p.stat().st_size for p in engine.rglob("*") if p.is_file() and p.suffix != ".pyc"
        )
    print(
        json.dumps(
            {
                "mb": round(sum(sizes.values()) / 1e6),
                "without_torch_mb": round((sum(sizes.values()) - sizes.get("torch", 0)) / 1e6),
                "packages": len(sizes),
                "largest_mb": {
                    name: round(sizes[name] / 1e6, 1)
                    for name in sorted(sizes, key=sizes.get, reverse=True)[:8]
                },
            }
        )
    )


if __name__ == "__main__":
    main()
