"""``score --output``: the tables and the JSON of two folders."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.lesions import read_table


def mask(folder: Path, name: str, start: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    array = np.zeros(cli_support.SHAPE, dtype=np.uint8)
    array[start : start + 10, 10:20, 10:20] = 1
    cli_support.write_head(folder / name, array)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    pred, truth = tmp_path / "home of Jane" / "pred", tmp_path / "truth"
    for number, start in enumerate((10, 15, 30)):
        mask(pred / f"sub-0{number}", f"sub-0{number}_label-lesion_mask.nii.gz", start)
        mask(truth, f"sub-0{number}_label-L_desc-T1lesion_mask.nii.gz", 10)
    return pred, truth


@pytest.mark.parametrize("scorer", ["atlas2022", "isles2022", "isles2026"])
def test_cases_summary_and_json(
    folders: tuple[Path, Path], tmp_path: Path, scorer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "scores"
    command = ["score", *map(str, folders), "--scorer", scorer, "-o", str(out)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    ends = (".html", ".json", "_cases.tsv", "_summary.tsv")
    names = [f"scores_{scorer}{end}" for end in ends]
    assert sorted(p.name for p in out.iterdir()) == names
    whole = json.loads((out / names[1]).read_text(encoding="utf-8"))
    software = whole.pop("software")
    assert software["name"] == "StrokeLesionSeg"
    assert whole == printed
    assert whole["scorer"] == scorer
    cases = read_table(out / names[2])
    assert [row["dice"] for row in cases] == pytest.approx([1, 0.5, 0])
    assert cases[1]["pred"] == "sub-01/sub-01_label-lesion_mask.nii.gz"
    assert cases[1]["truth"] == "sub-01_label-L_desc-T1lesion_mask.nii.gz"
    summary = {row["measure"]: row for row in read_table(out / names[3])}
    lesion_free = summary.pop("lesion_free_exactly_empty")
    assert lesion_free["n"] == 0
    volumes = {name: summary.pop(f"volume_{name}") for name in whole["summary"]["volumes"]}
    assert list(summary) == list(whole["summary"]["metrics"])
    assert volumes["correlation"]["mean"] == "n/a" or volumes["correlation"]["mean"] is None
    assert volumes["bias_ml"]["mean"] == 0
    assert summary["dice"]["n"] == 3
    assert summary["dice"]["mean"] == pytest.approx(0.5)
    assert summary["dice"]["median"] == pytest.approx(0.5)
    assert 0 <= summary["dice"]["ci95_low"] <= 0.5 <= summary["dice"]["ci95_high"] <= 1
    for file in out.iterdir():
        assert "home of Jane" not in file.read_text(encoding="utf-8")

    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_what_could_not_be_scored_is_in_the_files_too(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pred, truth = folders
    next(pred.glob("sub-01/*")).unlink()
    out = tmp_path / "scores"
    assert main(["score", str(pred), str(truth), "-o", str(out)]) == 3
    assert "sub-01" in capsys.readouterr().err
    whole = json.loads((out / "scores_atlas2022.json").read_text(encoding="utf-8"))
    assert len(whole["problems"]) == 1
    assert len(read_table(out / "scores_atlas2022_cases.tsv")) == 2


def test_the_output_is_checked_before_the_work(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["score", *map(str, folders), "-o", str(tmp_path / "file")]) == 2
    single = [str(next(folder.rglob("*.nii.gz"))) for folder in folders]
    assert main(["score", *single, "-o", str(tmp_path / "out")]) == 2
    assert "is for two folders" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # One map for many masks is a mistake, not something to pass over in silence.
    assert main(["score", *map(str, folders), "--soft", str(tmp_path / "file")]) == 2
    assert "--soft: is for two files" in capsys.readouterr().err


def test_folders_that_have_nothing_to_do_with_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No empty tables, and not a line for each of hundreds."""
    for number in range(15):
        mask(tmp_path / "pred", f"sub-{number}_label-lesion_mask.nii.gz", 10)
        mask(tmp_path / "truth", f"sub-x{number}_mask.nii.gz", 10)
    assert main(["score", str(tmp_path / "pred"), str(tmp_path / "truth")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 12
    assert lines[-2] == "and 19 more that could not be scored"
    assert lines[-1].startswith("stroke-lesion-seg: ")
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "pred"), str(tmp_path / "truth"), "-o", str(out)]) == 2
    whole = json.loads((out / "scores_atlas2022.json").read_text(encoding="utf-8"))
    assert len(whole["problems"]) == 30


def test_no_folder_is_left_where_nothing_was_written(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pred, _ = folders
    empty, out = tmp_path / "empty", tmp_path / "new"
    empty.mkdir()
    assert main(["score", str(pred), str(empty), "-o", str(out / "scores")]) == 2
    assert "contains no reference mask" in capsys.readouterr().err
    assert not out.exists()


def test_a_soft_map_for_folders_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", *map(str, folders), "--scorer", "isles2026"]
    assert main([*command, "--soft", "nowhere.nii.gz"]) == 2
    assert "--soft: is for two files" in capsys.readouterr().err


def test_a_map_that_the_scorer_does_not_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask(tmp_path, "mask.nii.gz", 10)
    file = str(tmp_path / "mask.nii.gz")
    command = ["score", file, file, "--soft", file]
    assert main(command) == 2
    assert "--soft: is not used by atlas2022. Add --scorer isles2026" in capsys.readouterr().err
    assert main([*command, "--scorer", "isles2026"]) == 0
