"""``stroketrain pack``: heads, masks and weights in one file, to train on another machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "pack", help="heads, masks and weights in one file, to train on a machine with a GPU"
    )
    p.add_argument("heads", type=Path, help="folder made by stroketrain heads")
    p.add_argument("weights", type=Path, help="run of fit --network volumetric, or safetensors")
    p.add_argument("out", type=Path, help="file to write, e.g. pack.zip")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Writes the pack and prints its size."""
    from ..volumetric.heads import HeadFolder
    from ..volumetric.pack import write_pack

    size = write_pack(HeadFolder(a.heads), a.weights, a.out)
    print(f"{a.out}, {size / 2**20:.1f} MiB")
