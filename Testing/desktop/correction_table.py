"""The table of ``docs/editing.md`` from what ``correct_cases.py`` wrote:

    python Testing/desktop/correction_table.py [RESULTS ...]

Without names it is what was kept, ``correct_cases.jsonl``. Rows of one case in several files are
joined, so that the tools may be driven in runs of their own.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TOOLS = ("stroke", "paint", "grow")
AFTER = (5, 15)
KEPT = Path(__file__).with_name("correct_cases.jsonl")


def joined(lines: Iterable[str]) -> list[dict[str, Any]]:
    """One row a case, of lines of JSON."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = json.loads(line)
        rows.setdefault(row["case"], {}).update(row)
    return [rows[name] for name in sorted(rows)]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Median Dice of all cases, and of each kind (the end of a case's name)."""
    kinds = sorted({row["case"].rpartition("-")[2] for row in rows})
    lines = []
    for kind in ("all", *kinds):
        some = [row for row in rows if kind in ("all", row["case"].rpartition("-")[2])]
        cells = [kind, _median([row["stroke"][0] for row in some if "stroke" in row])]
        for tool in TOOLS:
            known = [row[tool] for row in some if tool in row]
            cells.append(", ".join(_median([d[n] for d in known if n < len(d)]) for n in AFTER))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def times(rows: list[dict[str, Any]]) -> list[str]:
    """How long it took from the mouse's release to the labelmap, by kind of action."""
    lines = []
    for how in ("click", "brush", "outline"):
        found = [s for row in rows for s in row.get("release_to_labelmap_s", {}).get(how, ())]
        if found:
            lines.append(f"{how}: median {1000 * statistics.median(found):.0f} ms of {len(found)}")
    return lines


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.3f}" if values else "-"


def main() -> int:
    files = [Path(name) for name in sys.argv[1:]] or [KEPT]
    rows = joined(line for file in files for line in file.read_text().splitlines())
    print("\n".join([f"{len(rows)} cases", *table(rows), *times(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
