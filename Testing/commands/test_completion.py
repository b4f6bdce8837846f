"""The script for shells, asked as bash asks it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from StrokeLesionSegLib.cli import COMMANDS, main

bash = shutil.which("bash")
pytestmark = pytest.mark.skipif(bash is None, reason="no bash")


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def completed(script: str, *words: str) -> list[str]:
    """What bash offers after ``words``, the last of which is being typed."""
    typed = " ".join(f"'{word}'" for word in ("stroke-lesion-seg", *words))
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _stroke_lesion_seg"
    asked = f'{script}\n{ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    assert bash is not None
    done = subprocess.run([bash, "-euc", asked], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.split()


def test_commands_options_and_values(script: str) -> None:
    assert completed(script, "b") == ["batch"]
    assert set(COMMANDS) <= set(completed(script, ""))
    assert completed(script, "batch", "in", "out", "--dry") == ["--dry-run"]
    assert completed(script, "segment", "t1.nii", "--device", "c") == ["cpu", "cuda"]
    assert completed(script, "compare", "a", "b", "--report-convention", "n") == ["neurological"]
    assert set(completed(script, "models", "")) >= {"list", "install"}
    assert "--help" in completed(script, "models", "list", "--")
    # Files are the shell's own business.
    assert completed(script, "segment", "t1.n") == []
    assert completed(script, "segment", "") == []
    assert completed(script, "models", "install", "--l") == ["--lesion", "--license"]
    assert completed(script, "score", "--scorer", "isles") == ["isles2022", "isles2026"]


def test_zsh_gets_the_same_through_its_own_bridge(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "zsh"]) == 0
    text = capsys.readouterr().out
    assert "bashcompinit" in text
    assert text.splitlines()[2:] == script.splitlines()[1:]
    assert main(["completion", "csh"]) == 2
