"""``stroketrain experiments run``: every training of the chosen rows, one manifest each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import atomic_file

from ..data.cache import Cache
from ..data.splits import make_split
from ..fit.trainer import Runtime
from .facts import FACTS
from .fit import run_recipe
from .plan import ROWS, load_rows, runs_of

MANIFESTS = ROWS / "manifests"
INDEX = "index.json"


def read_index(folder: Path) -> dict[str, Any]:
    """Which manifests belong to which row, and which data each row was run on; empty before the
    first run."""
    path = folder / INDEX
    if not path.is_file():
        return {"rows": {}}
    index = json.loads(path.read_text(encoding="utf-8"))
    for entry in index["rows"].values():  # one for all rows, in indices of earlier versions
        entry.setdefault("data", index.get("data", {}))
    return {"rows": index["rows"]}


def describe_data(cache: Cache) -> dict[str, Any]:
    """What the table says of the data of a row."""
    simulated = [s["simulation"] for s in cache.scans if "simulation" in s]
    return {
        "fingerprint": cache.fingerprint,
        "release": cache.layout,
        "scans": len(cache),
        "subjects": len({s["subject"] for s in cache.scans}),
        "sites": len({s["site"] for s in cache.scans}),
        "simulated": len(simulated),
        "heads": len({r["person"] for r in simulated}),
    }


def _write(path: Path, content: Any, indent: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def chosen_rows(names: Sequence[str], folder: Path = ROWS) -> list[str]:
    """Row ids in the order asked for; "all" is all, in the papers' order. Raises ``InputError`` for
    an unknown one."""
    rows = load_rows(folder)
    if "all" in names:
        return list(rows)
    unknown = [n for n in names if n not in rows]
    if unknown:
        raise InputError(
            "experiments run", f"unknown row {', '.join(unknown)}", f"Use all or {', '.join(rows)}"
        )
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class RowsOptions:
    """How rows are run. ``budget``: of ``BUDGETS``. Manifests and an index go to
    ``manifests/<budget>``, which ``table`` reads. ``shard`` (i, n) does every n-th training only:
    several processes, on a device each, then do all of them."""

    budget: str
    manifests: Path = MANIFESTS
    keep_weights: bool = True
    shard: tuple[int, int] = (0, 1)


def run_rows(
    names: Sequence[str],
    cache: Cache,
    out: Path,
    options: RowsOptions,
    *,
    runtime: Runtime | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Run the rows on a cache; returns the number of trainings that were done now.

    Trainings lie in ``out/<budget>/<key>`` and are not repeated: a run that was killed goes on
    where it was, one that is shared by several rows is done once. Each row keeps which data it was
    run on, so that rows on R1.1 can stand beside rows on R2.0.
    """
    budget, shard = options.budget, options.shard
    rows = load_rows()
    folder = options.manifests / budget
    data = describe_data(cache)
    done = 0
    # A training's number is that of its first row, so that no two processes do it.
    numbers: dict[str, int] = {}
    small = cache
    for name in chosen_rows(names):
        row = rows[name]
        entry: dict[str, Any] = {"data": data, "facts": [], "runs": []}
        for fact in row.facts:
            if fact not in FACTS:
                raise InputError(f"row {name}", f"unknown fact {fact!r}", f"Use {', '.join(FACTS)}")
            entry["facts"] += FACTS[fact](cache)
        for run in runs_of(row, budget, cache.fingerprint):
            target = folder / f"{run.key}.json"
            number = numbers.setdefault(run.key, len(numbers))
            if not target.is_file() and number % shard[1] == shard[0]:
                # Each seed has its own fold: test subjects differ between seeds, and are the same
                # for every variant, so that scans can be paired.
                split = make_split(
                    cache.scans, run.by, seed=0, fingerprint=cache.fingerprint, fold=run.seed
                )
                place = out / budget / run.key
                if small.shrink != run.recipe.framing.shrink:
                    small = cache.shrunk(run.recipe.framing.shrink)
                result = run_recipe(
                    run.recipe,
                    small,
                    split,
                    place,
                    seed=run.seed,
                    runtime=runtime,
                )
                _write(target, result)
                if not options.keep_weights:
                    shutil.rmtree(place)
                done += 1
                dice = result["scores"]["test"].get(row.metric)
                say(f"{name} {run.variant} {run.by} seed {run.seed}: {row.metric} {dice}, "
                    f"{result['seconds']} s")  # fmt: skip
            entry["runs"].append(
                {"variant": run.variant, "by": run.by, "seed": run.seed, "key": run.key}
            )
        # Read again: another process may have written its rows in the meantime.
        index = read_index(folder)
        index["rows"][name] = entry
        _write(folder / INDEX, index, indent=1)
        say(
            f"{name} done: {counted(len(entry['runs']), 'training')}, "
            f"{counted(len(entry['facts']), 'fact')}"
        )
    return done
