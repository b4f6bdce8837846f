"""What ``--quiet`` leaves out and ``--verbose`` adds, and on which stream."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cli_support
import numpy as np
import pytest
from StrokeLesionSegLib.cli import build_parser, main

QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]


pytestmark = pytest.mark.usefixtures("with_tiny_model")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return cli_support.write_head(tmp_path / "scan.nii.gz")


def commands(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """The words of every command and action."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield [name]
                for words in commands(child):
                    yield [name, *words]


def test_every_command_takes_both_before_and_behind_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = build_parser()
    words_of_all = list(commands(parser))
    assert len(words_of_all) >= 13
    for words in words_of_all:
        for option in ("--quiet", "-q", "--verbose", "-v"):
            # --help ends the parsing only after the option was taken.
            with pytest.raises(SystemExit) as stop:
                parser.parse_args([*words, option, "--help"])
            assert stop.value.code == 0
    for command in (
        ["-v", "info"],
        ["info", "-v"],
        ["models", "-v", "list"],
        ["models", "list", "-v"],
    ):
        arguments = parser.parse_args(command)
        assert arguments.verbose
        assert not arguments.quiet
    with pytest.raises(SystemExit):
        parser.parse_args(["info", "-v", "-q"])
    assert "not allowed with" in capsys.readouterr().err


def test_segment(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(scan), *QUICK]) == 0
    usual = capsys.readouterr()
    assert "mL in all" in usual.out
    assert "Python" not in usual.err

    assert main(["segment", str(scan), *QUICK, "--overwrite", "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.out == ""
    # Warnings stay.
    assert quiet.err == usual.err
    assert "warning" in quiet.err

    assert main(["segment", str(scan), *QUICK, "--overwrite", "--verbose"]) == 0
    verbose = capsys.readouterr()
    names = ("lesion  ", "mask  ", "sidecar  ")
    assert [line for line in usual.out.splitlines() if line.startswith(names)] == [
        line for line in verbose.out.splitlines() if line.startswith(names)
    ]
    lines = dict(line.split(maxsplit=1) for line in verbose.err.splitlines() if " s" in line)
    for stage in ("read", "canonical", "network", "back", "clean", "write"):
        assert float(lines[stage].split(" s")[0]) >= 0
    assert float(lines["whole"].split(" s")[0]) > 0
    assert "device cpu" in verbose.err
    assert verbose.err.startswith("StrokeLesionSeg ")


def test_json_for_programs_stays_whole(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-q", "-v"):
        assert (
            main(["segment", str(scan), *QUICK, "--overwrite", option, "--progress", "json"]) == 0
        )
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[-1]["stage"] == "result"
        assert {"read", "network", "write"} <= {line["stage"] for line in lines}


def test_batch(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["batch", str(scan.parent), str(tmp_path.parent / f"{tmp_path.name}-out"), *QUICK]
    assert main([*command, "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*command, "--no-resume", "-v"]) == 0
    told = capsys.readouterr()
    assert "1 scan: 1 done" in told.out
    (line,) = [line for line in told.err.splitlines() if line.startswith("sub-")]
    assert ": done, " in line
    assert line.endswith(" s")


def test_score(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is only printed is what was asked for; what is in files need not be printed too."""
    for name in ("pred", "truth"):
        (tmp_path / name).mkdir()
        array = np.zeros(cli_support.SHAPE, np.uint8)
        array[10:20, 10:20, 10:20] = 1
        cli_support.write_head(tmp_path / name / "sub-01_mask.nii.gz", array)
    command = ["score", str(tmp_path / "pred"), str(tmp_path / "truth"), "-q"]
    assert main(command) == 0
    assert "dice" in capsys.readouterr().out
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out" / "scores_atlas2022.html").is_file()


@pytest.mark.usefixtures("no_network_timed")
def test_answers_are_printed_always(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["info"], ["cite"], ["models", "list"], ["models", "list", "--json"]):
        assert main([*command, "-q"]) == 0
        assert capsys.readouterr().out.strip()
    assert main(["models", "verify", "tiny", "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.nii.gz")
    assert main(["segment", missing, "-q"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stroke-lesion-seg: ")
    assert main(["segment", missing, "-v"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1] == line
