"""What ``stroketrain`` says: its options' defaults, one line for an error, no advertisements."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from stroketrain import cli
from stroketrain.fit.trainer import Runtime, make_trainer
from stroketrain.simulate import tree


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "site") for n in (0, 1, 2)] == ["0 sites", "1 site", "2 sites"]


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "-n SCANS, --scans SCANS (default: 24)" in said
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("stroketrain ")


def test_an_error_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", str(tmp_path / "none"), str(tmp_path / "run")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_nobody_has_to_read_what_it_prints() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    listing = [sys.executable, "-m", "stroketrain.cli", "experiments", "list"]
    done = subprocess.run(listing, stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.returncode, done.stderr) == (130, b"")


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "no folder" / "table.md"
    nothing = ["--manifests", str(tmp_path)]
    assert cli.main(["experiments", "table", "--out", str(table), *nothing]) == 2
    assert capfd.readouterr().err == (
        f"stroketrain: {table}: cannot be read or written (No such file or directory). "
        "Check the path, and what you may do there.\n"
    )


def test_lightning_recommends_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    make_trainer(Runtime(), tmp_path, [], max_steps=1, enable_checkpointing=False)
    assert capfd.readouterr().err == ""


def test_the_log_of_a_run_that_goes_on_is_kept(tmp_path: Path) -> None:
    for step in (1, 2):
        logger = make_trainer(Runtime(), tmp_path, [], enable_checkpointing=False).logger
        logger.log_metrics({"train/loss": 1.0 / step}, step)
        logger.save()
    logs = sorted(tmp_path.rglob("metrics.csv"))
    assert [log.read_text().split()[-1] for log in logs] == ["1,1.0", "2,0.5"]


def test_nobody_is_aligned_who_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aligned = []

    def anatomy(file: str, data: str | None, cache: str) -> None:
        if file == "bad":
            raise ValueError("bad cannot be aligned")
        aligned.append(file)

    monkeypatch.setattr(tree, "_anatomy", anatomy)
    people = ["a", "bad", "b", "c", "d"]
    assert tree._usable(people, 3, None, tmp_path) == aligned == ["a", "b", "c"]
    assert "left out: bad cannot be aligned" in capsys.readouterr().out
    aligned.clear()
    assert tree._usable(people, 9, None, tmp_path) == ["a", "b", "c", "d"]


def test_a_simulation_without_people_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_usable", lambda *_: [])
    with pytest.raises(InputError, match="none of its people can be used"):
        tree.simulate_tree(tmp_path, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("heads people out --workers 0", "--workers: 0 is not from 1"),
        ("fit cache out --threads -1", "--threads: -1 is not from 1"),
        ("fit cache out --steps 0", "--steps: 0 is not from 1"),
        ("fit cache out --lr nan", "--lr: nan is not between 0"),
        ("fit none out --simulate none --pool 0", "--pool: 0 is not from 1"),
        ("split cache out --seed -1", "--seed: -1 is not from 0"),
        ("simulate out -n 0", "--scans: 0 is not from 1"),
        ("release heads run out --name x --empty 7", "--empty: 7 is not from 0 to 1"),
        ("experiments run A1 --threads -2", "--threads: -2 is not from 1"),
        ("nothing", "invalid choice: 'nothing'"),
    ],
)
def test_a_value_out_of_range_is_one_line(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export run out --name x --training none.json", "none.json: cannot be read"),
        ("export run out --name x --metrics words.txt", "words.txt: cannot be read"),
        ("export run out --name x --metrics list.json", "list.json: is JSON, but no object"),
        ("experiments run Z9 --out runs", "Z9"),
        ("experiments table --manifests none --out t.md", "none: there is no such folder"),
        ("simulate tree --heads people", "--heads: is for a page, but none is asked for"),
        ("simulate page.png --page --data x", "--data: is for a tree, but a page is asked for"),
        ("simulate tree --part val", "--part: is of the people of --data"),
    ],
)
def test_what_would_be_ignored_or_fail_late_is_refused_at_once(
    tmp_path: Path,
    words: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("words")
    Path("list.json").write_text("[1]")
    assert cli.main(words.split()) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"words.txt", "list.json"}
