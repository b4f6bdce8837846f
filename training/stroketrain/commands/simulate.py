"""``stroketrain simulate``: simulated strokes as an ATLAS tree."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError

from ..values import count, refuse, whole

# What a page has no use for.
_OF_TREES = (
    *("data", "part", "kinds", "workers", "layout", "subjects", "unlabelled", "anatomies"),
)


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "simulate", help="write simulated strokes as an ATLAS tree"
    )
    p.add_argument("out", type=Path)
    p.add_argument("-n", "--scans", type=count, default=24)
    p.add_argument("--data", type=Path, help="folder with t1, lesions, labels (else procedural)")
    p.add_argument("--part", choices=("train", "val", "test"), default="train")
    p.add_argument("--kinds", nargs="+", choices=("cavity", "mixed", "faint", "healthy"))
    p.add_argument("--seed", type=whole, default=0)
    p.add_argument("--workers", type=count, default=1)
    p.add_argument("--layout", default="r2.0", choices=("r2.0", "r1.1", "r3.0"))
    p.add_argument("--subjects", type=count, help="subject names for the one procedural head")
    p.add_argument("--unlabelled", type=whole, default=0, help="so many further scans in Testing, "
                   "without a mask (R2.0)")  # fmt: skip
    p.add_argument("--page", action="store_true", help="write one PNG instead: simulated strokes "
                   "of the volumetric training beside real patients")  # fmt: skip
    p.add_argument("--heads", type=Path, help="with --page: folder made by stroketrain heads")
    p.add_argument("--real", type=Path, help="with --page: folder of patients' *_T1w.nii.gz")
    p.add_argument("--anatomies", type=Path, help="where aligned people are kept between runs")
    p.set_defaults(run=run, plain=p)


def run(a: argparse.Namespace) -> None:
    """Raises ``InputError`` for a data folder without people, and for what would be ignored."""
    if a.page:
        refuse(a, _OF_TREES, "is for a tree, but a page is asked for", "Leave it out")
        _page(a)
        return
    refuse(a, ("heads", "real"), "is for a page, but none is asked for", "Add --page")
    if a.data is None:
        refuse(a, ("part",), "is of the people of --data, but none is given", "Add --data FOLDER")
    else:
        refuse(a, ("subjects",), "is for the one procedural head", "Leave it or --data out")
    from StrokeLesionSegLib.brief import counted

    from ..simulate.tree import TreeOptions, simulate_tree

    if a.data is not None and not (a.data / "t1").is_dir():
        raise InputError(a.data, "has no folder t1", "Leave out --data for a procedural run")
    options = TreeOptions(
        data=a.data,
        part=a.part,
        cache=a.anatomies,
        seed=a.seed,
        workers=a.workers,
        kinds=a.kinds,
        layout=a.layout,
        subjects=a.subjects,
        unlabelled=a.unlabelled,
    )
    records = simulate_tree(a.out, a.scans, options)
    sick = sum(1 for r in records if r["volume_ml"] > 0)
    print(f"{counted(len(records), 'simulated scan')} in {a.out}, {sick} with lesions")


def _page(a: argparse.Namespace) -> None:
    from ..volumetric.heads import HeadFolder
    from ..volumetric.page import draw_page

    if a.heads is None:
        raise InputError("--page", "needs people to draw in", "Add --heads FOLDER")
    scans = 48 if a.scans == 24 else a.scans
    for n, name in enumerate(
        draw_page(HeadFolder(a.heads), a.out, scans=scans, seed=a.seed, real=a.real), 1
    ):
        print(f"{n:3d}  {name}")
