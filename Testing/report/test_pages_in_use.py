"""The pages as a person uses them: click, scroll, type, save, load, print, on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, needs_browser
from report_support import make_content
from StrokeLesionSegLib.cohort.ratings import with_ratings
from StrokeLesionSegLib.report import (
    GroupPage,
    GroupScan,
    GroupTraits,
    StudyPlace,
    group_report,
    scan_report,
    study_list,
)
from StrokeLesionSegLib.report.viewer import NIIVUE, viewer_images
from StrokeLesionSegLib.resources import resource_path
from test_viewer import with_viewer

pytestmark = [needs_browser, pytest.mark.slow]
READY = "document.querySelector('#viewer').dataset.ready"
STUDY = "0f3a99"
SCANS = [GroupScan(f"sub-0{n}", "done", page=f"sub-0{n}/anat/page.html") for n in (1, 2, 3)]
ROWS = [
    {"scan": f"sub-0{n}", "volume_ml": 10.0 * n, "left_share": 1, "mean_probability": 0.8}
    for n in (1, 2, 3)
]
SITES = GroupTraits(
    ("site", "group", "age"),
    {
        "sub-01": {"site": "Hill", "group": "aphasia", "age": "61"},
        "sub-02": {"site": "Harbour", "group": "aphasia", "age": "72"},
        "sub-03": {"site": "Hill", "group": "control", "age": "55"},
    },
    ("participants.tsv lacks 1 of 4 participants (sub-09).",),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of a study of three, as batch lays them out."""
    out = tmp_path_factory.mktemp("study")
    (out / "pages").mkdir()
    (out / "pages" / "study.js").write_text(study_list(STUDY, SCANS), encoding="utf-8")
    (out / "pages" / NIIVUE).write_bytes(resource_path("Report", NIIVUE).read_bytes())
    for n, scan in enumerate(SCANS):
        page = out / str(scan.page)
        page.parent.mkdir(parents=True)
        content = with_viewer() if n == 1 else make_content()
        place = StudyPlace(STUDY, scan.name, "../../")
        page.write_text(scan_report(replace(content, study=place, name=scan.name)), "utf-8")
    (out / "group_scans.tsv").write_text("scan\n", encoding="utf-8")
    page = group_report(
        ROWS,
        SCANS,
        GroupPage(
            "Simulated strokes",
            traits=SITES,
            files={"group_scans.tsv": "A row for each scan"},
            study=STUDY,
        ),
    )
    (out / "index.html").write_text(page, encoding="utf-8")
    return out


def amber(pixels: np.ndarray) -> int:
    """Pixels with the colour of lesions, whether on dark or on bright tissue."""
    red, green, blue = (pixels[..., n] for n in range(3))
    return int(((red > 90) & (red - blue > 60) & (green - blue > 20) & (red > green)).sum())


def stage(browser: Browser) -> np.ndarray:
    """What the viewer draws."""
    x, y = browser.where("#viewer-canvas", 0, 0)
    right, bottom = browser.where("#viewer-canvas", 1, 1)
    browser.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    return browser.screenshot()[int(y) : int(bottom), int(x) : int(right)]


def test_viewer_in_a_page_of_its_own(browser: Browser, tmp_path: Path) -> None:
    """From a file, with NiiVue unpacked out of the page: crosshair, wheel, opacity, planes."""
    page = tmp_path / "scan.html"
    page.write_text(scan_report(with_viewer()), encoding="utf-8")
    browser.open(page)
    browser.wait_for(READY)
    assert browser.console == []
    assert browser.text("#viewer-place") == "x −36, y −12, z 24 mm. Lesion 1"
    coloured = amber(stage(browser))
    assert coloured > 100

    browser.click("#viewer-canvas", 0.17, 0.4)
    elsewhere = browser.text("#viewer-place")
    assert elsewhere != "x −36, y −12, z 24 mm. Lesion 1"
    before = float(elsewhere.split("z ")[1].split(" ")[0].replace("−", "-"))
    browser.scroll("#viewer-canvas", 120, 0.17, 0.4)
    browser.wait_for(f"document.querySelector('#viewer-place').innerText !== '{elsewhere}'")
    after = float(browser.text("#viewer-place").split("z ")[1].split(" ")[0].replace("−", "-"))
    assert 0 < abs(after - before) <= 6
    browser.click("[data-lesion='1']")
    assert browser.text("#viewer-place") == "x −36, y −12, z 24 mm. Lesion 1"

    browser.click("#viewer-opacity", 0.01)
    assert amber(stage(browser)) < coloured / 10
    browser.click("#viewer-opacity", 0.99)
    assert amber(stage(browser)) >= coloured
    browser.click("[data-view='axial']")
    assert browser.run("document.querySelector('[data-view=axial]').ariaPressed") == "true"
    # The patient's left is on the right.
    columns = np.nonzero((abs(stage(browser) - (255, 176, 0)).max(axis=2) < 60).any(axis=0))[0]
    assert columns.mean() > 0.5 * browser.run(
        "document.querySelector('#viewer-canvas').clientWidth"
    )
    browser.emulate("print")
    assert not browser.shown("#viewer")
    assert browser.shown(".overview .sheet")
    browser.emulate()
    assert browser.console == []


def test_lesions_beyond_255_are_coloured_and_numbered(browser: Browser, tmp_path: Path) -> None:
    content = make_content()
    labels = np.where(content.labels == 1, 300, content.labels)
    shown = viewer_images(content.t1, labels, content.brain, content.affine)
    page = tmp_path / "scan.html"
    page.write_text(scan_report(replace(content, viewer=shown)), encoding="utf-8")
    browser.open(page)
    browser.wait_for(READY)
    assert browser.text("#viewer-place").endswith("mm. Lesion 300")
    assert amber(stage(browser)) > 100
    assert browser.console == []


def test_without_webgl2_the_pictures_remain(tmp_path: Path) -> None:
    page = tmp_path / "scan.html"
    page.write_text(scan_report(with_viewer()), encoding="utf-8")
    with Browser(tmp_path / "browser", webgl=False) as browser:
        browser.open(page)
        browser.wait_for("!document.querySelector('#viewer-note').hidden")
        assert "WebGL2" in browser.text("#viewer-note")
        assert not browser.shown("#viewer-canvas")
        assert browser.shown(".overview .sheet")


def test_rating_a_study(browser: Browser, study: Path, tmp_path: Path) -> None:
    """From the group to a scan, rated by keys, on to the next one, back, saved and loaded."""
    browser.open(study / "index.html")
    assert browser.console == []
    assert "0 of 3 scans are rated" in browser.text("#ratings-state")
    browser.click("#ratings-start")
    browser.wait_for("location.href.includes('sub-01') && document.readyState === 'complete'")
    assert not browser.shown("#review-previous")
    browser.key("2")
    assert browser.run("document.querySelector('[data-rating=correct]').ariaPressed") == "true"
    browser.key("m")
    browser.type("12 n 3")  # keys of the page are letters of a comment
    browser.key("Enter")
    browser.key("n")
    browser.wait_for("location.href.includes('sub-02') && document.readyState === 'complete'")
    browser.wait_for(READY)
    assert browser.text("#review-place") == "2 of 3, 1 rated"
    browser.click("[data-rating='accepted']")
    browser.click("#review-unrated")
    browser.wait_for("location.href.includes('sub-03') && document.readyState === 'complete'")
    assert not browser.shown("#review-next")
    browser.key("3")
    browser.key("3")  # taken back
    browser.key("p")
    browser.wait_for("location.href.includes('sub-02') && document.readyState === 'complete'")
    browser.wait_for(READY)
    browser.emulate("print")
    ticks = "[...document.querySelectorAll('[data-printed]')].map(e => e.textContent).join('')"
    assert browser.run(ticks) == "☑☐☐"
    assert not browser.shown("#review")
    browser.emulate()
    browser.key("g")
    browser.wait_for("location.href.endsWith('index.html') && document.readyState === 'complete'")
    browser.wait_for("document.querySelector('#ratings-state').innerText.startsWith('2 of 3')")
    cells = "[...document.querySelectorAll('[data-rated]')].map(e => e.textContent)"
    assert browser.run(cells) == ["to be corrected", "accepted", ""]
    browser.click("#ratings-save")
    table = browser.downloaded()
    assert table.name == f"ratings_study-{STUDY}.tsv"
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == ["study", "scan", "rating", "comment", "rated"]
    assert [line[:4] for line in lines[1:]] == [
        [STUDY, "sub-01", "correct", "12 n 3"],
        [STUDY, "sub-02", "accepted", ""],
        # Or a table of before would bring back what was taken back.
        [STUDY, "sub-03", "n/a", ""],
    ]
    earlier = f"study\tscan\trating\tcomment\trated\n{STUDY}\tsub-03\trejected\t\t2020\n"
    (tmp_path / "ratings-1.tsv").write_text(earlier, encoding="utf-8")
    browser.choose_file("#ratings-file", tmp_path / "ratings-1.tsv")
    browser.wait_for("!document.querySelector('#ratings-note').hidden")
    assert "1 older than those here" in browser.text("#ratings-note")
    (tmp_path / "ratings-2.tsv").write_bytes(table.read_bytes())
    records, _, _ = with_ratings(tmp_path, [{"stem": "sub-03"}], STUDY, {})
    assert records[0]["rating"] is None

    # In another browser: nothing is there, and the table brings it back.
    browser.run("localStorage.clear()")
    browser.open(study / "index.html")
    assert "0 of 3" in browser.text("#ratings-state")
    mixed = tmp_path / "mixed.tsv"
    more = f"{STUDY}\tsub-77\taccepted\t\t\n{STUDY}\tsub-03\tgood\t\t\n"
    mixed.write_text(table.read_text(encoding="utf-8") + more, encoding="utf-8")
    browser.choose_file("#ratings-file", mixed)
    browser.wait_for("!document.querySelector('#ratings-note').hidden")
    assert browser.text("#ratings-note") == (
        "2 ratings were loaded; 1 taken back; "
        "1 of scans that this study does not have left out; "
        "1 with another rating than accepted, correct, rejected left out."
    )
    assert "2 of 3" in browser.text("#ratings-state")

    # That of another study changes nothing, whoever its subjects are.
    foreign = tmp_path / "foreign.tsv"
    foreign.write_text(
        "study\tscan\trating\tcomment\trated\nbeef\tsub-03\trejected\t\t2099\n", encoding="utf-8"
    )
    browser.choose_file("#ratings-file", foreign)
    browser.wait_for("document.querySelector('#ratings-note').innerText.includes('another study')")
    assert "(beef, not 0f3a99); nothing was changed" in browser.text("#ratings-note")
    assert "2 of 3" in browser.text("#ratings-state")
    other = tmp_path / "other.tsv"
    other.write_text("name\tvalue\na\t1\n", encoding="utf-8")
    browser.choose_file("#ratings-file", other)
    browser.wait_for("document.querySelector('#ratings-note').innerText.includes('no table')")


@pytest.mark.parametrize(("rated", "told"), [("11:05", True), ("11:35", False)])
def test_a_rating_of_before_the_page_was_made_anew_is_told(
    browser: Browser, study: Path, rated: str, told: bool
) -> None:
    place = StudyPlace(STUDY, "sub-02", "../../")
    made = replace(make_content(), study=place, created="2026-01-02 13:10 (UTC+0200)")
    page = study / "sub-02" / "anat" / "anew.html"
    page.write_text(scan_report(made), encoding="utf-8")
    browser.open(page)
    browser.run(
        f"strokeLesionRatings.save('{STUDY}', 'sub-02', "
        f"{{rating: 'accepted', rated: '2026-01-02T{rated}:00.000Z'}})"
    )
    browser.open(page)
    assert browser.run("document.querySelector('[data-rating=accepted]').ariaPressed") == "true"
    assert ("before this page was made anew" in browser.text("#review-state")) == told
    browser.run("localStorage.clear()")
    page.unlink()


def test_keys_of_the_page_do_nothing_to_the_picture(browser: Browser, study: Path) -> None:
    """With the picture in focus: a comment does not change what a drag does, nor V the view."""
    browser.open(study / str(SCANS[1].page))
    browser.wait_for(READY)
    browser.run(
        "(() => { const shown = niivue.Niivue.prototype, draw = shown.drawScene;"
        " shown.drawScene = function () { window.drawn = this.opts; return draw.call(this); }; })()"
    )
    browser.click("#viewer-canvas", 0.3, 0.3)
    browser.click("#viewer-canvas", 0.31, 0.3)
    assert browser.run("document.activeElement.id") == "viewer-canvas"
    before = browser.run("[drawn.dragMode, drawn.sliceType]")
    place = browser.text("#viewer-place")
    browser.key("v")
    browser.key("m")
    assert browser.run("document.activeElement.id") == "review-comment"
    browser.key("Escape")
    assert browser.run("[drawn.dragMode, drawn.sliceType]") == before
    browser.click("#viewer-canvas", 0.31, 0.3)
    for _ in range(3):
        browser.key("h")  # the note says so
    assert browser.text("#viewer-place") != place


def test_comments_with_quotes(browser: Browser, study: Path, tmp_path: Path) -> None:
    """Whatever a comment begins with, the table is one for the batch and for another browser."""
    comments = ('"cavity" is not "marked"', '"torn', '3" too high', "a\u2028b\u000bc")
    ratings = [f"sub-{n}" for n in range(len(comments))]
    browser.open(study / "index.html")
    browser.run(
        f"{json.dumps(list(zip(ratings, comments, strict=True)))}.forEach(([scan, comment]) => "
        f"strokeLesionRatings.save('{STUDY}', scan, {{rating: 'correct', comment, rated: '2026'}}))"
    )
    text = browser.run(f"strokeLesionRatings.table('{STUDY}', {json.dumps(ratings)})")
    (tmp_path / "ratings.tsv").write_text(text, encoding="utf-8")
    records, notes, _ = with_ratings(tmp_path, [{"stem": scan} for scan in ratings], STUDY, {})
    assert not notes
    wanted = [*comments[:3], "a b c"]
    assert [record["rating_comment"] for record in records] == wanted
    browser.run("localStorage.clear()")
    names = json.dumps(ratings)
    told = browser.run(f"strokeLesionRatings.take('{STUDY}', {names}, {json.dumps(text)})")
    assert told == "4 ratings were loaded."
    kept = browser.run(f"{names}.map(scan => strokeLesionRatings.load('{STUDY}', scan).comment)")
    assert kept == wanted


def test_group_by_group_and_on_a_phone(browser: Browser, study: Path) -> None:
    browser.open(study / "index.html")
    assert browser.text("h1") == "Simulated strokes"
    assert "lacks 1 of 4 participants" in browser.text("main")
    assert browser.shown("[data-by='site']")
    assert "Harbour" in browser.text("[data-by='site']")
    assert not browser.shown("[data-by='group']")
    browser.run(
        "(s => { s.value = 'group'; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#by-column'))"
    )
    assert browser.shown("[data-by='group']")
    assert not browser.shown("[data-by='site']")
    assert browser.run("document.querySelector('.files a').getAttribute('href')") == (
        "./group_scans.tsv"
    )
    browser.resize(390, 844, phone=True)
    try:
        assert browser.run("document.documentElement.scrollWidth") <= 390
        # Names stay in one line, and beside the columns that are moved.
        heights = browser.run(
            "[...document.querySelectorAll('#scans tbody th a')].map(e => e.offsetHeight)"
        )
        assert max(heights) < 30
        browser.open(study / str(SCANS[0].page))
        assert browser.run("document.documentElement.scrollWidth") <= 390
        assert browser.shown("[data-rating='accepted']")
    finally:
        browser.resize(1100, 900)


def test_a_page_that_lost_its_study(browser: Browser, study: Path, tmp_path: Path) -> None:
    """Mailed alone, the page says what is missing and shows its pictures."""
    page = tmp_path / "a" / "b" / "page.html"
    page.parent.mkdir(parents=True)
    page.write_bytes((study / str(SCANS[1].page)).read_bytes())
    browser.open(page)
    browser.wait_for("!document.querySelector('#viewer-note').hidden")
    assert "was not found" in browser.text("#viewer-note")
    assert not browser.shown("#review-next")
    assert browser.shown(".overview .sheet")
