"""``stroketrain clicks``: record robot users, and fit the judge of clicks to the records."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import check_output


def clicks_parser(commands: Any) -> None:
    """Add ``clicks record`` and ``clicks fit`` to ``commands``."""
    p = commands.add_parser("clicks", help="learn how far clicks speak, from robot users")
    steps = p.add_subparsers(dest="step", required=True)
    one = steps.add_parser("record", help="let a robot user click through a cache's scans")
    one.add_argument("out", type=Path, help="an .npz")
    one.add_argument("caches", type=Path, nargs="+", help="of stroketrain prepare")
    one.add_argument("--model", default="stroke-t1-sim")
    one.add_argument("--minutes", type=float, default=20.0)
    one.add_argument("--part", type=int, default=0, help="of --parts, for several processes")
    one.add_argument("--parts", type=int, default=1)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--threads", type=int, default=1)
    two = steps.add_parser("fit", help="fit the perceptron to records")
    two.add_argument("out", type=Path, help="a .safetensors")
    two.add_argument("records", type=Path, nargs="+")
    two.add_argument("--epochs", type=int, default=12)
    two.add_argument("--seed", type=int, default=0)


def run_command(a: argparse.Namespace) -> None:
    """Run one of the two steps; raises ``InputError`` for records that cannot be read."""
    # Before minutes are spent: the result has to have a place.
    check_output(a.out, overwrite=True)
    if a.step == "record":
        if not 0 <= a.part < a.parts:
            raise InputError("--part", f"there is no part {a.part} of {a.parts}", "count from 0")
        from StrokeLesionSegLib.models import load_model

        from ..data.cache import Cache
        from .collect import collect, save

        caches = [Cache.open(path) for path in a.caches]
        records = collect(
            caches, load_model(a.model), minutes=a.minutes, part=a.part, parts=a.parts,
            seed=a.seed, threads=a.threads, say=lambda text: print(text, flush=True),
        )  # fmt: skip
        if not records:
            raise InputError(a.caches[0], "holds no scan with lesion", "prepare some that have")
        save(records, a.out)
        print(f"{len(records)} records in {a.out}")
        return
    from StrokeLesionSegLib.models.safetensors_io import write_safetensors

    from .collect import load
    from .fit import fit

    records = []
    for path in a.records:
        try:
            records += load(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                path, "holds no records of clicks", "name what record wrote"
            ) from error
    if len({r.scan for r in records}) < 2:
        raise InputError(
            a.records[0], "holds records of one scan", "record more: some are held out"
        )
    tensors, result = fit(records, epochs=a.epochs, seed=a.seed)
    write_safetensors(a.out, tensors, {"held_out": json.dumps(result)})
    print(a.out)
