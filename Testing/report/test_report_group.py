"""The page of a group: order, sums, histogram, map, and what it does not say."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_support import AFFINE, SHAPE, ball, brain, cells, parse, picture, section, titles
from StrokeLesionSegLib.lesions import find_lesions, lesion_row, read_table, write_rows
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.report import (
    FrequencyMap,
    GroupPage,
    GroupScan,
    group_report,
    write_group_report,
)
from StrokeLesionSegLib.report.by_group import volume_histogram
from test_report_scan import HOSTILE, _walk, assert_alone, policy_of


def row(scan: str, volume: float, share: float = 1.0, probability: float = 0.9, **more: object):
    return {
        "scan": scan,
        "volume_ml": volume,
        "left_share": share,
        "mean_probability": probability,
        "keep": True,
        **more,
    }


SCANS = (
    GroupScan("sub-01", "done", page="sub-01/anat/sub-01_report.html", aligned=True, seconds=9.5),
    GroupScan("sub-02", "failed", reason="/data/Doe/x.nii: ends early. Copy it again."),
    GroupScan("sub-03", "done", aligned=False, alignment_reason="No brain."),
    GroupScan("sub-04", "done", aligned=True),
    GroupScan("sub-05", "done", aligned=True),
    GroupScan("sub-06", "waiting"),
)
ROWS = (
    row("sub-01", 10.0, 1.0),
    row("sub-01", 2.0, 0.25),
    row("sub-03", 5.0, 0.0),
    row("sub-05", 350.0, 0.5, 0.55),
    row("sub-05", 999.0, keep=False),
)


def table_of(page) -> dict[str, list[str]]:
    table = section(page, "All scans").one("table")
    return {r.children[0].text: [c.text for c in r.children[1:]] for r in table.all("tr")[1:]}


def test_failures_and_suspicious_scans_come_first() -> None:
    page = parse(group_report(ROWS, SCANS, GroupPage("Site A", facts={"Model": "tiny"})))
    order = titles(page)
    assert order[:3] == ["Summary", "Failed scans", "To be looked at"]
    assert order.index("To be looked at") < order.index("All scans")
    assert "4 of 6 scans finished, 1 failed, 1 not reached yet" in section(page, "Summary").text
    failed = [r.text for r in section(page, "Failed scans").all("tr")[1:]]
    assert failed == ["sub-02 x.nii: ends early. Copy it again."] or failed == [
        "sub-02x.nii: ends early. Copy it again."
    ]
    doubtful = {
        r.children[0].text: r.children[1].text
        for r in section(page, "To be looked at").all("tr")[1:]
    }
    assert list(doubtful) == ["sub-05", "sub-03"]
    assert "350 mL" in doubtful["sub-05"]
    assert "mean probability 0.55" in doubtful["sub-05"]
    assert doubtful["sub-03"].startswith("The alignment to MNI152 failed: No brain.")
    # Of scans without lesion there is one line, however many they are.
    assert "No lesion was found in 1 scan: sub-04." in section(page, "To be looked at").text
    assert "2 to be looked at" in section(page, "Summary").text


@pytest.mark.parametrize("lesions", [0, 1])
def test_to_be_looked_at_is_not_the_whole_cohort(lesions: int) -> None:
    """Empty masks, and what was odd about most of the scans, are a line each."""
    said = [f"the background of -{1000 + n} was set to 0" for n in range(30)]
    scans = [GroupScan(f"sub-{n:02d}", "done", warnings=(said[n],)) for n in range(30)]
    scans[7] = replace(scans[7], warnings=(said[7], "2 slices seem to be missing"))
    rows = [
        {"scan": f"sub-{n:02d}", "volume_ml": 5, "left_share": 1, "mean_probability": 0.9}
        for n in range(30 * lesions)
    ]
    looked = section(parse(group_report(rows, scans)), "To be looked at")
    assert [row.text for row in looked.all("tr")[1:]] in (
        ["sub-072 slices seem to be missing"],
        ["sub-07 2 slices seem to be missing"],
    )
    assert "30 of the scans: the background of … was set to …" in looked.text
    assert ("No lesion was found in 30 scans" in looked.text) is not bool(lesions)
    assert "1 to be looked at" in parse(group_report(rows, scans)).text


def test_what_a_reader_has_drawn_is_not_doubted() -> None:
    """As on the page of the scan and in the table of the group."""
    scans = (GroupScan("sub-05", "done", aligned=True, corrected=True),)
    assert "To be looked at" not in titles(parse(group_report(ROWS[3:], scans)))


def test_table_sums_up_the_lesions() -> None:
    page = parse(group_report(ROWS, SCANS))
    rows = table_of(page)
    assert list(rows) == [scan.name for scan in SCANS]
    assert rows["sub-01"] == [
        "done", "2", "12.0", "10.5", "1.50", "10.0", "0.90", "yes", "9.5",
    ]  # fmt: skip
    assert rows["sub-05"][:3] == ["done", "1", "350.0"]  # the rejected lesion is not counted
    assert rows["sub-04"][1:6] == ["0", "0", "0", "0", "0"]
    assert rows["sub-02"][0] == "failed"
    assert set(rows["sub-02"][1:]) == {"n/a"}
    assert rows["sub-03"][7] == "failed"
    link = section(page, "All scans").one("a")
    assert link.attributes["href"] == "./sub-01/anat/sub-01_report.html"
    heads = section(page, "All scans").all("th")[:10]
    assert all(h.attributes["aria-sort"] == "none" and h.all("button") for h in heads)
    # Numbers are sorted by what they are, not by how they are written.
    keys = [c.attributes.get("data-key") for c in section(page, "All scans").all("td", "num")]
    assert "12" in keys
    assert "" in keys


def test_rows_come_from_the_written_table(tmp_path: Path) -> None:
    found = find_lesions(
        (ball((-30, 0, 20), 12) | ball((30, 0, 20), 6)) * np.float32(0.8),
        AFFINE,
        OperatingPoint(0.5),
        to_mni=np.eye(4),
    )
    rows = [{"scan": "sub-01", **lesion_row(lesion)} for lesion in found.lesions]
    write_rows(tmp_path / "group_lesions.tsv", list(rows[0]), rows)
    again = read_table(tmp_path / "group_lesions.tsv")
    cell = table_of(parse(group_report(again, SCANS[:1])))["sub-01"]
    assert cell[:2] == ["done", "2"]
    assert float(cell[2]) == pytest.approx(found.summary.volume_ml, abs=0.051)
    assert float(cell[3]) == pytest.approx(found.summary.left_ml, abs=0.051)
    assert float(cell[4]) == pytest.approx(found.summary.right_ml, abs=0.051)


def test_no_alignment_is_explained_where_it_occurs() -> None:
    rest = [GroupScan("a", "done", aligned=True), GroupScan("b", "failed")]
    assert "MNI152 grid already" not in section(parse(group_report([], rest)), "All scans").text
    page = parse(group_report([], [*rest, GroupScan("c", "done")]))
    assert [cells[7] for cells in table_of(page).values()] == ["yes", "n/a", "n/a"]
    assert "n/a for scans that lie on the MNI152 grid already" in section(page, "All scans").text


def test_histogram_counts_every_finished_scan_once() -> None:
    rng = np.random.default_rng(1)
    totals = [0.0, 0.1, 0.3, 300.0, *10 ** rng.uniform(-2, 3, 200)]
    bounds = [0.1, 0.3, 1, 3, 10, 30, 100, 300]
    counts = volume_histogram(totals)
    assert sum(counts) == len(totals)
    assert counts[0] == 1
    for n, count in enumerate(counts[1:]):
        low = 0 if n == 0 else bounds[n - 1]
        high = bounds[n] if n < len(bounds) else np.inf
        assert count == sum(low <= total < high for total in totals if total > 0)
    page = parse(group_report(ROWS, SCANS))
    chart = section(page, "Lesion volume").one("svg")
    assert [t.text for t in chart.all("text", "count")] == list("1000011001")
    assert len(chart.all("rect")) == 4
    assert "none: 1" in chart.one("title").text


def frequency(side: float) -> FrequencyMap:
    counts = np.zeros(SHAPE, dtype=np.int32)
    counts[ball((side * 36.0, -12.0, 24.0), 14.0)] = 3
    counts[ball((side * 36.0, -12.0, 24.0), 7.0)] = 8
    background = np.where(brain(), 120, 0).astype(np.uint8)
    return FrequencyMap(counts, 10, AFFINE, background, left_out=2)


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_map_shows_the_lesions_on_their_side(side: float, convention: str) -> None:
    page = parse(
        group_report((), SCANS, GroupPage(frequency=frequency(side), convention=convention))
    )
    part = section(page, "Where the lesions lie")
    assert "Lesions of 10 scans" in part.text
    assert "at most 8 overlap (80 %)" in part.text
    assert "2 scans without alignment left out" in part.text
    sheet = part.one("svg", "sheet")
    heat = picture(sheet, layer=1)
    rows, columns = np.nonzero(heat[..., 3])
    colors = {tuple(c) for c in heat[rows, columns]}
    assert len(colors) == 2
    letter = "L" if side < 0 else "R"
    drawn = cells(sheet)
    for y, x in zip(rows, columns, strict=True):
        cell = max((c for c in drawn if c.x <= x and c.y <= y), key=lambda c: (c.y, c.x))
        middle = (cell.texts["L"] + cell.texts["R"]) / 2
        assert (x + 0.5 > middle) == (cell.texts[letter] > middle)


def test_groups_without_anything() -> None:
    page = parse(group_report((), ()))
    assert "0 of 0 scans finished" in page.text
    page = parse(group_report((), SCANS[1:2]))
    assert titles(page) == ["Summary", "Failed scans", "All scans"]
    empty = FrequencyMap(np.zeros(SHAPE, int), 4, AFFINE, np.zeros(SHAPE, np.uint8))
    page = parse(group_report((), SCANS[3:4], GroupPage(frequency=empty)))
    assert "No aligned scan has a lesion." in page.text


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="occurs twice"):
        group_report((), (SCANS[0], SCANS[0]))
    with pytest.raises(ValueError, match="not in the group"):
        group_report((row("sub-99", 1.0),), SCANS)
    with pytest.raises(ValueError, match="state of 'x'"):
        GroupScan("x", "sleeping")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    scans = (
        GroupScan(name, "done", page=f"{name}/r.html", warnings=(name,)),
        GroupScan(name + "2", "failed", reason=name),
    )
    page = group_report(
        (row(name, 1.0),), scans, GroupPage(name, facts={name: name}, intended_use=name)
    )
    page.encode("utf-8")
    tree = parse(page)
    (script,) = tree.all("script")
    assert "alert" not in script.words[0]
    assert_alone(tree)
    plain = parse(group_report((row("a", 1.0),), (GroupScan("a", "done", page="r.html"), SCANS[1])))
    allowed = {n.tag for n in _walk(plain)} | {"dl", "dt", "dd"}
    assert {n.tag for n in _walk(tree)} <= allowed


@pytest.mark.parametrize(
    ("page", "href"),
    [
        ("sub-01/a b#c?d.html", "./sub-01/a%20b%23c%3Fd.html"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("sub-é/r.html", "./sub-%C3%A9/r.html"),
        ("../../etc/passwd", None),
        ("/etc/passwd", None),
        ("\\\\server\\x", None),
        (None, None),
    ],
)
def test_links_stay_below_the_page(page: str | None, href: str | None) -> None:
    tree = parse(group_report((), (GroupScan("a", "done", page=page),)))
    links = section(tree, "All scans").all("a")
    assert [a.attributes["href"] for a in links] == ([] if href is None else [href])


def test_page_is_alone_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    write_group_report(file, ROWS, SCANS, GroupPage(frequency=frequency(1.0)))
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    tree = parse(file.read_text(encoding="utf-8"))
    assert_alone(tree)
    (script,) = tree.all("script")
    digest = base64.b64encode(hashlib.sha256(script.words[0].encode()).digest()).decode()
    assert policy_of(tree)["script-src"] == [f"'sha256-{digest}'"]
    assert policy_of(tree)["default-src"] == ["'none'"]
    assert not script.attributes


def test_thousands_of_scans() -> None:
    scans = [GroupScan(f"sub-{n:05d}", "done", aligned=n % 3 > 0) for n in range(3000)]
    rows = [row(scan.name, 1.0 + n % 7) for n, scan in enumerate(scans) if n % 3]
    page = group_report(rows, scans)
    assert len(page) < 4_000_000
    tree = parse(page)
    assert len(section(tree, "All scans").all("tr")) == 3001
    looked = section(tree, "To be looked at")
    assert "The first 200 of 1000 scans" in looked.text
    shown, folded = looked.all("table")
    assert len(shown.all("tr")) == 201
    assert len(folded.all("tr")) == 801
    assert folded in looked.one("details").all("table")


def test_the_reason_of_every_failure_is_on_the_page() -> None:
    scans = [GroupScan(f"sub-{n}", "failed", reason=f"reason {n}.") for n in range(450)]
    part = section(parse(group_report((), scans)), "Failed scans")
    assert [r.children[1].text for r in part.all("tr") if r.children[0].text != "Scan"] == [
        f"reason {n}." for n in range(450)
    ]


def test_what_the_reader_warned_of_is_to_be_looked_at() -> None:
    engine = "The scan could not be aligned to MNI152 (No brain); it is segmented as it lies."
    scans = (
        GroupScan("odd", "done", aligned=True, warnings=("/data/Doe/x.nii: two orientations.",)),
        GroupScan("fine", "done", aligned=True),
        GroupScan("both", "done", aligned=False, alignment_reason="No brain", warnings=(engine,)),
        GroupScan("broken", "failed", reason="Ends early.", warnings=("Odd header.",)),
    )
    rows = (row("odd", 5.0), row("fine", 5.0), row("both", 5.0))
    page = parse(group_report(rows, scans))
    looked = section(page, "To be looked at").all("tr")[1:]
    assert [(r.children[0].text, r.children[1].text) for r in looked] == [
        ("both", "The alignment to MNI152 failed: No brain. The scan was segmented as it lies."),
        ("odd", "x.nii: two orientations."),
    ]
    assert "2 to be looked at" in section(page, "Summary").text


def test_a_map_of_a_sample_says_so() -> None:
    told = "spread evenly over the 2500 scans that are finished"
    for group, sampled in ((2500, True), (12, False), (None, False)):
        page = parse(
            group_report((), SCANS, GroupPage(frequency=replace(frequency(1.0), group=group)))
        )
        assert (told in section(page, "Where the lesions lie").text) is sampled
    nothing = replace(frequency(1.0), scans=0)
    page = parse(group_report((), SCANS, GroupPage(frequency=nothing)))
    assert "No scan is aligned" in section(page, "Where the lesions lie").text
