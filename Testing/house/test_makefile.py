"""The Makefile says what is wrong before it starts, from folders of any name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    os.name == "nt" or shutil.which("make") is None, reason="needs make"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space in its name that holds the Makefile."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make above us (make test) must not pass its flags on.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "python of mine"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_help_lists_every_target(folder: Path) -> None:
    text = (folder / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert declared is not None
    result = make(folder)
    assert result.returncode == 0
    for target in set(declared[1].split()) - {"help"}:
        assert f"make {target}" in result.stdout
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("target", ["demo", "test", "bench", "lint"])
def test_an_old_python_is_refused_in_one_line(folder: Path, target: str) -> None:
    script = 'if [ "$1" = --version ]; then echo Python 3.9.1; else exit 1; fi'
    result = make(folder, target, f"PYTHON={fake_python(folder, script)}")
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "***" not in line]
    assert len(said) == 1
    assert "Python 3.9.1" in said[0]
    assert "3.10 or newer is needed" in said[0]
    assert not (folder / ".venv").exists()


def test_a_missing_python_is_named(folder: Path) -> None:
    result = make(folder, "demo", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "no-such-python is missing" in result.stderr


def test_an_interrupted_set_up_is_repeated(folder: Path) -> None:
    """A step that fails leaves no stamp, so that the next call tries again."""
    log = folder / "log"
    # Creates a "virtual environment" whose pip fails.
    script = f"""
case "$1" in
  -c) exit 0 ;;
  -m) mkdir -p .venv/bin
      printf '#!/bin/sh\\necho "$@" >> "{log}"\\ncase "$*" in *install*) exit 7;; esac\\n' \
        > .venv/bin/python
      chmod +x .venv/bin/python ;;
esac
"""
    python = fake_python(folder, script)
    for attempt in (1, 2):
        result = make(folder, "demo", f"PYTHON={python}")
        assert result.returncode != 0
        assert not (folder / ".venv" / ".stamp-demo").exists()
        installs = [line for line in log.read_text().splitlines() if "install" in line]
        assert len(installs) == attempt
        assert "-c constraints.txt" in installs[0]


def test_clean_removes_what_was_made(folder: Path) -> None:
    for name in (".venv", "demo", "a/__pycache__", ".pytest_cache"):
        (folder / name).mkdir(parents=True)
    assert make(folder, "clean").returncode == 0
    assert {path.name for path in folder.iterdir()} == {
        *("Makefile", "constraints.txt", "pyproject.toml", "a")
    }
    assert not (folder / "a" / "__pycache__").exists()
