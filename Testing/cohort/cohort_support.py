"""A small cohort, and looking at what a batch made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cli_support
from StrokeLesionSegLib.cli import main

# Fast, and enough for what is tested here: everything beside the network.
QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]


def batch(source: Path, out: Path, *arguments: object) -> int:
    """Run ``stroke-lesion-seg batch`` in this process; its exit code."""
    return main(["batch", str(source), str(out), *QUICK, *map(str, arguments)])


def write_cohort(folder: Path, count: int = 3) -> Path:
    """``count`` scans ``case0.nii.gz`` and so on, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cli_support.write_head(folder / f"case{number}.nii.gz", cli_support.head_array(number))
    return folder


def records(out: Path, kind: str = "scan") -> list[dict[str, Any]]:
    """All records of one kind in a ledger, torn and strange lines being errors."""
    lines = (out / "logs" / "scans.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["record"] == kind]


def states(out: Path) -> dict[str, str]:
    """The last state of each scan, by stem."""
    return {r["stem"]: r["state"] for r in records(out)}


def leftovers(out: Path) -> list[str]:
    """Hidden files and folders in a data set that no finished batch leaves."""
    found = [p.relative_to(out).as_posix() for p in out.rglob(".*")]
    return sorted(name for name in found if name != ".bidsignore")


def outputs(out: Path, stem: str) -> list[Path]:
    return sorted(p for p in out.rglob(f"{stem}_*") if p.is_file())
