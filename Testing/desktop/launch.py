"""Starts the desktop application, whose launcher SLICER names, with a script of this folder:

    SLICER=.../Slicer python Testing/desktop/launch.py take_pictures.py

The script runs in an empty profile, and reads its settings from the environment. ``--style "Dark
Slicer"`` chooses Slicer's look, ``--screen 1920x1080`` the size of a virtual screen whose launcher
takes one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "StrokeLesionSeg"


def command(what: Sequence[str], testing: bool = True) -> list[str]:
    """The command line that runs code or a script in Slicer with the module. A Slicer that is being
    tested does not read its profile."""
    options = ["--no-splash", "--additional-module-paths", str(MODULE)]
    return [os.environ["SLICER"], *options, *(["--testing"] if testing else []), *what]


def surroundings(home: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a Slicer with the profile ``home``."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    # Slicer gives way to all other programs as soon as its first background thread starts.
    outside["SLICER_BACKGROUND_THREAD_PRIORITY"] = "0"
    outside.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    return {**outside, **(more or {}), **own}


def choose_style(home: Path, style: str) -> None:
    """Write Slicer's look into the profile ``home``, such as "Dark Slicer"."""
    settings = home / ".config" / "slicer.org" / "Slicer.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[Styles]\nStyle={style}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("script")
    parser.add_argument("--style", default="")
    parser.add_argument("--screen", default="1600x1000")
    arguments = parser.parse_args()
    if not os.environ.get("SLICER"):
        parser.error("the environment variable SLICER has to name Slicer's launcher")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.style:
            choose_style(Path(folder), arguments.style)
        script = str(HERE / arguments.script)
        ended = subprocess.run(
            command(["--python-script", script], testing=not arguments.style),
            env=surroundings(Path(folder), {"SLICER_SCREEN": arguments.screen}),
            stdin=subprocess.DEVNULL,
        )
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
