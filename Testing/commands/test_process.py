"""The command as a process: its end, and that it reads no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from StrokeLesionSegLib.cli import COMMANDS, build_parser

_ENDING = """
import atexit, sys, threading, time
from StrokeLesionSegLib.cli import end_process
atexit.register(print, "registered")
def late():
    time.sleep(0.2)
    print("thread")
threading.Thread(target=late, daemon={daemon}).start()
print("first")
end_process(3)
"""


@pytest.mark.parametrize(
    ("daemon", "lines"),
    [(True, ["first", "registered"]), (False, ["first", "thread", "registered"])],
)
def test_the_end_loses_nothing(daemon, lines):
    code = _ENDING.format(daemon=daemon)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split(), run.stderr) == (3, lines, "")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_a_parser_of_one_command_is_that_of_all(name):
    def helps(parser):
        action = next(a for a in parser._actions if getattr(a, "choices", None))
        return action.choices[name].format_help(), len(action.choices)

    alone, every = helps(build_parser(name)), helps(build_parser())
    assert alone[0] == every[0]
    assert (alone[1], every[1]) == (1, len(COMMANDS))


def test_segment_is_told_without_numpy():
    code = (
        "import sys; from StrokeLesionSegLib.cli import build_parser; build_parser('segment');"
        "print(sorted({'numpy', 'scipy', 'torch', 'SimpleITK'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
