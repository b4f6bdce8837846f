"""``stroketrain experiments run``: every training of the chosen rows, one manifest each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError

from ..data.cache import Cache
from ..data.splits import make_split
from ..fit.recipe_run import run_recipe
from .facts import FACTS
from .plan import ROWS, load_rows, runs_of

MANIFESTS = ROWS / "manifests"
INDEX = "index.json"


def read_index(folder: Path) -> dict[str, Any]:
    """Which manifests belong to which row; empty before the first run."""
    path = folder / INDEX
    if not path.is_file():
        return {"data": {}, "rows": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.rename(path)


def chosen_rows(names: Sequence[str], folder: Path = ROWS) -> list[str]:
    """Row ids in order; "all" is all. Raises ``InputError`` for an unknown one."""
    rows = load_rows(folder)
    if "all" in names:
        return list(rows)
    unknown = [n for n in names if n not in rows]
    if unknown:
        raise InputError(
            "experiments run", f"unknown row {', '.join(unknown)}", f"use all or {', '.join(rows)}"
        )
    return [n for n in rows if n in names]


def run_rows(
    names: Sequence[str],
    cache: Cache,
    out: Path,
    *,
    budget: str,
    manifests: Path = MANIFESTS,
    rows_folder: Path = ROWS,
    keep_weights: bool = True,
    accelerator: str = "auto",
    precision: str = "32-true",
    say: Callable[[str], None] = print,
) -> int:
    """Run the rows on a cache; returns the number of trainings that were done now.

    Trainings lie in ``out/<budget>/<key>`` and are not repeated: a run that was killed goes on
    where it was, one that is shared by several rows is done once. Manifests and an index go to
    ``manifests/<budget>``, which ``table`` reads. Another data set than last time starts the
    index anew, since numbers from two data sets have no place in one table.
    """
    rows = load_rows(rows_folder)
    folder = manifests / budget
    index = read_index(folder)
    if index["data"].get("fingerprint") != cache.fingerprint:
        index["rows"] = {}
    simulated = [s["simulation"] for s in cache.scans if "simulation" in s]
    index["data"] = {
        "fingerprint": cache.fingerprint,
        "scans": len(cache),
        "subjects": len({s["subject"] for s in cache.scans}),
        "sites": len({s["site"] for s in cache.scans}),
        "simulated": len(simulated),
        "heads": len({r["person"] for r in simulated}),
    }
    done = 0
    for name in chosen_rows(names, rows_folder):
        row = rows[name]
        entry: dict[str, Any] = {"facts": [], "runs": []}
        for fact in row.facts:
            if fact not in FACTS:
                raise InputError(f"row {name}", f"unknown fact {fact!r}", f"use {', '.join(FACTS)}")
            entry["facts"] += FACTS[fact](cache)
        for run in runs_of(row, budget, cache.fingerprint):
            target = folder / f"{run.key}.json"
            if not target.is_file():
                # One split per way and budget, whatever the seed: seeds then differ in the
                # network's start and the batches alone, and scans can be paired.
                split = make_split(cache.scans, run.by, seed=0, fingerprint=cache.fingerprint)
                place = out / budget / run.key
                split.save(place / "split.json")
                result = run_recipe(
                    run.recipe,
                    cache,
                    split,
                    place,
                    seed=run.seed,
                    accelerator=accelerator,
                    precision=precision,
                )
                _write(target, result)
                if not keep_weights:
                    shutil.rmtree(place)
                done += 1
                dice = result["scores"]["test"].get(row.metric)
                say(f"{name} {run.variant} {run.by} seed {run.seed}: {row.metric} {dice}, "
                    f"{result['seconds']} s")  # fmt: skip
            entry["runs"].append(
                {"variant": run.variant, "by": run.by, "seed": run.seed, "key": run.key}
            )
        index["rows"][name] = entry
        _write(folder / INDEX, index)
        say(f"{name} done: {len(entry['runs'])} trainings, {len(entry['facts'])} facts")
    return done
