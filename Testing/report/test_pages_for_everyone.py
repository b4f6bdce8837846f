"""Every kind of page: contrast, names for screen readers, keys, nothing out of sight, paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, needs_browser
from report_support import AFFINE, ball, brain, make_content
from StrokeLesionSegLib.lesions import GroupChange, RegionTable, RegionVolume, find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.report import (
    ChangeContent,
    ChangePair,
    ChangeSide,
    GroupPage,
    GroupScan,
    StudyPlace,
    group_report,
    scan_report,
    write_change_group,
    write_change_report,
    write_score_report,
)
from test_pages_in_use import ROWS, SCANS, SITES
from test_report_group import frequency
from test_score_page import scored

pytestmark = [needs_browser, pytest.mark.slow]
KINDS = ("scan", "group", "change", "changes", "score")

# Texts whose contrast with what is behind them is below WCAG 2.1 AA: 4.5, or 3 for large letters.
CONTRAST = """
(() => {
  const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return Array.from(probe.getImageData(0, 0, 1, 1).data);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 250) { return colour; }
    }
    return [255, 255, 255, 255];
  };
  const faults = [];
  let seen = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const own = Array.from(element.childNodes)
      .filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
    if (!own || !element.getClientRects().length || element.closest(".sheet, script")) { continue; }
    const style = getComputedStyle(element);
    const svg = element.namespaceURI.endsWith("svg");
    if (svg && element.tagName !== "text") { continue; }
    const front = rgba(svg ? style.fill : style.color), back = behind(element);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < least) {
      faults.push(own.slice(0, 40) + " " + ((a + 0.05) / (b + 0.05)).toFixed(2));
    }
  }
  return [seen, faults];
})()
"""
# What a screen reader could not name, and other slips of the markup.
NAMES = """
(() => {
  const faults = [];
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  if (document.documentElement.lang !== "en") { faults.push("no language"); }
  if (!document.title.trim()) { faults.push("no title"); }
  if (all("h1").length !== 1) { faults.push("not one h1"); }
  if (all("main").length !== 1) { faults.push("not one main"); }
  for (const e of all("svg")) {
    const named = e.getAttribute("role") === "img" && e.querySelector("title");
    if (!named) { faults.push("unnamed svg"); }
  }
  for (const e of all("button, a")) {
    if (!(e.textContent.trim() || e.getAttribute("aria-label"))) { faults.push("unnamed " + e.id); }
  }
  for (const e of all("input, select")) {
    if (!(e.labels.length || e.getAttribute("aria-label"))) { faults.push("unlabelled " + e.id); }
  }
  for (const e of all("table")) { if (!e.caption) { faults.push("table without caption"); } }
  for (const e of all("th")) { if (!e.scope) { faults.push("no scope: " + e.textContent); } }
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) { faults.push("an id twice"); }
  let level = 1;
  for (const e of all("h1, h2, h3, h4")) {
    const own = parseInt(e.tagName[1]);
    if (own > level + 1) { faults.push("a level left out before " + e.textContent); }
    level = own;
  }
  return faults;
})()
"""


def regions() -> RegionTable:
    rows = [
        RegionVolume(f"region with a long name, number {n}", side, 9.0 / (n + 1), 0.1, 0.02)
        for side in ("left", "right")
        for n in range(25)
    ]
    return RegionTable("An atlas", tuple(rows), 1.5)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {kind: folder / f"{kind}.html" for kind in KINDS}
    content = replace(
        make_content(((-36.0, -12.0, 24.0), (30.0, 10.0, 10.0)), regions=regions()),
        study=StudyPlace("0f3a99", "sub-01", "./"),
        warnings=("Something is odd about this scan, said in a sentence.",),
    )
    found["scan"].write_text(scan_report(content), encoding="utf-8")
    found["group"].write_text(
        group_report(
            ROWS,
            [*SCANS, GroupScan("sub-04", "failed", reason="It is damaged.")],
            GroupPage(
                title="A study",
                traits=SITES,
                frequency=frequency(1.0),
                files={"group_scans.tsv": "A row for each scan"},
                facts={"Model": "tiny"},
                study="0f3a99",
            ),
        ),
        encoding="utf-8",
    )
    write_score_report(found["score"], scored())
    write_change_report(found["change"], change())
    write_change_group(found["changes"], pairs(), notes=["sub-09 has one session only."], home="x")
    return found


def pairs() -> list[ChangePair]:
    """All that the page of a study's changes can show."""
    done = [
        ChangePair(
            f"sub-{n:02d}_ses-1_ses-2",
            f"sub-{n:02d}",
            "ses-1",
            "ses-2",
            "done",
            page="change.html",
            first_ml=10.0,
            second_ml=10.0 + n,
            change_ml=float(n - 4),
            groups={"new": 1, "unchanged": n},
            beyond_noise=n % 2,
            corrected=("ses-2",) * (n % 2),
            note="They do not look like scans of one person." * (n == 3),
        )
        for n in range(8)
    ]
    return [*done, ChangePair("sub-08", "sub-08", "ses-1", "ses-2", "failed", "No mask.")]


def change() -> ChangeContent:
    sides = []
    for name, radius in (("ses-1", 10.0), ("ses-2", 13.0)):
        mask = ball((-36.0, -12.0, 24.0), radius)
        lesions = find_lesions(mask.astype(np.float32), AFFINE, OperatingPoint(0.5))
        grey = np.where(brain(), 120, 0).astype(np.float32)
        sides.append(ChangeSide(name, grey, lesions.labels, lesions.summary))
    groups = (
        GroupChange(1, "grown", (1,), (1,), 4.2, 9.2, 0.0, "left"),
        GroupChange(2, "not covered", (), (), 0.0, 0.0, 1.2, "right"),
    )
    return ChangeContent(*sides, AFFINE, groups, 0.97)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), webgl=False, width=1280) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
def test_page(kind: str, pages: dict[str, Path], browser: Browser) -> None:
    browser.resize(1280, 900)
    browser.open(pages[kind])
    assert browser.run(NAMES) == []
    for media, scheme in (("", ""), ("", "dark"), ("print", "")):
        browser.emulate(media, scheme)
        seen, faults = browser.run(CONTRAST)
        assert seen > 20
        assert faults == [], (media, scheme)
    browser.emulate()
    for width, phone in ((1280, False), (768, False), (390, True)):
        browser.resize(width, 844, phone=phone)
        assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper(kind: str, pages: dict[str, Path], browser: Browser) -> None:
    """Nothing is cut off at the right edge of A4, and no heading stands over nothing."""
    browser.resize(688, 1000)  # 182 mm, what the margins leave
    browser.open(pages[kind])
    browser.emulate("print")
    beyond = browser.run(
        "Array.from(document.querySelectorAll('table, svg, dl, p, h2'))"
        ".filter(e => e.getClientRects().length && e.getBoundingClientRect().right > 690)"
        ".map(e => (e.textContent || e.tagName).slice(0, 40))"
    )
    assert beyond == []
    empty = browser.run(
        "Array.from(document.querySelectorAll('section')).filter(s => s.getClientRects().length"
        " && !Array.from(s.children).some(e => e.tagName !== 'H2' && e.getClientRects().length))"
        ".map(s => s.textContent)"
    )
    assert empty == []
    browser.emulate()


@pytest.mark.parametrize("kind", KINDS)
def test_by_keys_alone(kind: str, pages: dict[str, Path], browser: Browser) -> None:
    """Tab reaches every link, button and field, in their order, and what has the focus shows it."""
    browser.resize(1280, 900)
    browser.open(pages[kind])
    wanted = browser.run(
        "Array.from(document.querySelectorAll('a[href], button, input, select'))"
        ".filter(e => e.getClientRects().length).length"
    )
    reached = set()
    for _ in range(3 * wanted + 10):
        browser.key("Tab")
        place = browser.run(
            "(e => e === document.body ? '' : [Array.from(document.querySelectorAll("
            "'a[href], button, input, select')).indexOf(e), getComputedStyle(e).outlineStyle,"
            " getComputedStyle(e).outlineWidth, e.type || ''].join(' '))(document.activeElement)"
        )
        if not place:
            break
        number, style, width, type_ = place.split(" ")
        if int(number) >= 0:
            reached.add(int(number))
            # The button over a file field shows the focus in its place.
            assert type_ == "file" or (style != "none" and width != "0px"), place
    assert len(reached) == wanted
