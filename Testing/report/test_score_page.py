"""The page of scored masks: what it says, what it draws, how it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, needs_browser
from report_support import Node, parse, section, titles
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.lesions import score_case
from StrokeLesionSegLib.lesions.scorers import CaseScore, FolderScores, summarise_scores
from StrokeLesionSegLib.report import ScorePageFacts, write_score_report
from StrokeLesionSegLib.report.charts import difference_axis, volume_axis

# Voxels along an edge of the cube that is the lesion of reference and mask; None: no lesion.
CUBES = {"sub-01": (10, 10), "sub-02": (12, 8), "sub-03": (6, None), "sub-04": (None, 5),
         "sub-05": (None, None), "sub-06": (14, 15)}  # fmt: skip


def cube(edge: int | None) -> np.ndarray:
    mask = np.zeros((20, 20, 20), np.uint8)
    if edge:
        mask[:edge, :edge, :edge] = 1
    return mask


def scored(problems: tuple[InputError, ...] = ()) -> FolderScores:
    cases = []
    for name, (truth, pred) in CUBES.items():
        scores = score_case(cube(pred), cube(truth), np.eye(4), "isles2022", distances=True)
        cases.append(CaseScore(name, Path(f"{name}_pred.nii"), Path(f"{name}.nii"), scores))
    summary = summarise_scores([case.scores for case in cases], "isles2022")
    return FolderScores("isles2022", tuple(cases), problems, summary, ("a.nii: /x/y label 1",))


def page_of(folder: Path, result: FolderScores, more: ScorePageFacts | None = None) -> Node:
    write_score_report(folder / "scores.html", result, more)
    return parse((folder / "scores.html").read_text(encoding="utf-8"))


def rows(part: Node) -> list[list[str]]:
    return [[cell.text for cell in row.children] for row in part.one("tbody").all("tr")]


def test_the_numbers(tmp_path: Path) -> None:
    problem = InputError("/data/jane/sub-09.nii", "no prediction of sub-09 found", "Predict it")
    result = scored((problem,))
    page = page_of(tmp_path, result)
    verdict = section(page, "Summary").one("p", "verdict").text
    assert verdict.startswith("6 cases scored, 1 could not be. Mean Dice ")
    assert verdict.endswith("1 of 2 lesion-free scans were left empty.")
    assert rows(section(page, "Could not be scored")) == [
        ["sub-09.nii", "no prediction of sub-09 found. Predict it."]
    ]
    assert "jane" not in (tmp_path / "scores.html").read_text(encoding="utf-8")
    assert rows(section(page, "Look at these first")) == [
        ["Lesion in the reference, none in the mask", "One case: sub-03"],
        ["No lesion in the reference, but in the mask", "One case: sub-04"],
    ]
    measures = {row[0]: row[1:] for row in rows(section(page, "Measures"))}
    dice = result.summary["metrics"]["dice"]
    assert measures["Dice"][:2] == ["6", f"{dice['mean']:.3f}"]
    assert measures["Dice"][2] == f"{dice['ci95_low']:.3f} to {dice['ci95_high']:.3f}"
    assert measures["95th percentile of Hausdorff distance, mm"][0] == "4"
    cases = {row[0]: row[1:] for row in rows(section(page, "All cases"))}
    assert set(cases) == set(CUBES)
    assert cases["sub-02"][-5:] == ["1.73", "0.51", "1", "0", "0"]
    assert cases["sub-03"][-5:] == ["0.22", "0", "0", "1", "0"]
    # Distances need a surface in both.
    assert cases["sub-03"][6:8] == ["n/a", "n/a"]
    result.summary["lesion_free"]["n"] = 1
    verdict = section(page_of(tmp_path, result), "Summary").one("p", "verdict").text
    assert verdict.endswith("1 of 1 lesion-free scan was left empty.")


def test_the_charts(tmp_path: Path) -> None:
    result = scored()
    page = page_of(tmp_path, result)
    scatter, difference = section(page, "Volumes").all("svg", "plot")
    for chart in (scatter, difference):
        assert [dot.one("title").text.split(":")[0] for dot in chart.all("circle")] == list(CUBES)
    # As many points lie below the diagonal as masks are smaller than references.
    frame = [float(line.attributes["x1"]) for line in scatter.all("line", "level")]
    assert len(frame) == 1
    assert len(difference.all("line", "level")) == 3
    agreement = result.summary["volumes"]
    differences = [(b or 0) ** 3 / 1000 - (a or 0) ** 3 / 1000 for a, b in CUBES.values()]
    assert agreement["bias_ml"] == pytest.approx(np.mean(differences))
    reach = 1.96 * np.std(differences, ddof=1)
    assert agreement["limit_high_ml"] - agreement["bias_ml"] == pytest.approx(reach)
    bars = section(page, "Measures").one("svg").all("text", "count")
    assert [bar.text for bar in bars] == ["2", "0", "0", "0", "0", "1", "0", "0", "0", "1", "2"]


def test_axes_hold_what_is_drawn() -> None:
    axis = volume_axis("mL", 230)
    assert axis.ticks == (0, 0.1, 1, 10, 100, 1000)
    places = [axis.share(v) for v in (0, 0.01, 0.1, 1, 10, 230, 1000)]
    assert places[0] == 0
    assert places[-1] == 1
    assert places == sorted(places)
    assert volume_axis("mL", 0).high == 1
    for values in ([-3.2, 7.9], [0.0], [], [-0.02], [1e4, -1]):
        across = difference_axis("mL", values)
        assert across.low <= min([0, *values]) <= max([0, *values]) <= across.high
        assert 2 <= len(across.ticks) <= 12
        assert 0 in across.ticks


def test_nothing_could_be_scored(tmp_path: Path) -> None:
    summary = summarise_scores([], "atlas2022")
    problem = InputError("a.nii", "damaged", "Copy it again")
    page = page_of(tmp_path, FolderScores("atlas2022", (), (problem,), summary))
    assert titles(page) == ["Summary", "Could not be scored", "How this was made"]
    assert section(page, "Summary").one("p", "verdict").text == "No case scored, 1 could not be."


def test_names_cannot_break_it(tmp_path: Path) -> None:
    scores = scored().cases[0].scores
    case = CaseScore('<b>"x', Path("a.nii"), Path("b.nii"), scores)
    summary = summarise_scores([scores], "isles2022")
    more = ScorePageFacts({'<b>"x': "../../etc/passwd.html", "b": "x"}, {"../up.tsv": "no"})
    page = page_of(tmp_path, FolderScores("isles2022", (case,), (), summary), more)
    assert [row[0] for row in rows(section(page, "All cases"))] == ['<b>"x']
    assert "Tables" not in titles(page)


@pytest.fixture
def derivative(tmp_path: Path) -> tuple[Path, Path]:
    """Masks and references as a batch lays them out; one scan has a report."""
    out, truth = tmp_path / "Jane's study" / "out", tmp_path / "truth"
    for name, (true, pred) in CUBES.items():
        folder = out / name / "anat"
        folder.mkdir(parents=True)
        truth.mkdir(exist_ok=True)
        mask = folder / f"{name}_label-lesion_mask.nii.gz"
        write_volume(mask, Volume(cube(pred), np.eye(4)))
        write_volume(truth / f"{name}_mask.nii.gz", Volume(cube(true), np.eye(4)))
    report = out / "sub-02" / "anat" / "sub-02_desc-lesions_report.html"
    report.write_text("<!DOCTYPE html><title>sub-02</title>", encoding="utf-8")
    return out, truth


def test_links_to_reports_but_never_to_folders_above(
    derivative: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", *map(str, derivative)]
    out, _ = derivative
    assert main([*command, "-o", str(out / "scores")]) == 0
    page = out / "scores" / "scores_atlas2022.html"
    assert page.as_uri() in capsys.readouterr().out
    (link,) = section(parse(page.read_text(encoding="utf-8")), "All cases").all("a")
    assert link.attributes["href"] == "./../sub-02/anat/sub-02_desc-lesions_report.html"
    assert (page.parent / str(link.attributes["href"])).is_file()
    assert main([*command, "-o", str(tmp_path / "elsewhere")]) == 0
    text = (tmp_path / "elsewhere" / "scores_atlas2022.html").read_text(encoding="utf-8")
    assert "Jane" not in text
    assert not section(parse(text), "All cases").all("a")


@needs_browser
@pytest.mark.slow
def test_as_a_person_uses_it(derivative: tuple[Path, Path], tmp_path: Path) -> None:
    out, truth = derivative
    assert main(["score", str(out), str(truth), "--distances", "-o", str(out / "scores")]) == 0
    page = out / "scores" / "scores_atlas2022.html"
    with Browser(tmp_path / "browser", webgl=False, width=1280) as browser:
        browser.open(page)
        assert browser.console == []
        first = "document.querySelector('#scans tbody th').innerText"
        assert browser.run(first) == "sub-01"
        browser.click("#scans thead th:nth-child(2) button")
        assert browser.run("document.querySelectorAll('[aria-sort=descending]').length") == 1
        assert browser.run(first) in ("sub-01", "sub-05")
        browser.click("#scans thead th:nth-child(2) button")
        assert browser.run(first) in ("sub-03", "sub-04")
        # Nothing is wider than the window, here and on a phone.
        for width, phone in ((1280, False), (390, True)):
            browser.resize(width, 844, phone=phone)
            assert browser.run("document.documentElement.scrollWidth") <= width
        browser.resize(1280, 900)
        circle = ".plot circle"
        assert browser.run(f"document.querySelectorAll('{circle}').length") == 2 * len(CUBES)
        pdf = browser.pdf(tmp_path / "scores.pdf")
        assert 1 <= pdf.count(b"/Type /Page\n") <= 4
        browser.click("#scans tbody a")
        browser.wait_for("document.title === 'sub-02'")
