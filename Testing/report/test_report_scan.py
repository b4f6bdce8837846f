"""The page of one scan: complete, closed, escaped, alone, and right about left and right."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_support import (
    AFFINE,
    SHAPE,
    Node,
    ball,
    brain,
    cells,
    make_content,
    parse,
    picture,
    section,
    titles,
)
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.lesions import RegionTable, RegionVolume
from StrokeLesionSegLib.lesions.regions import UNION
from StrokeLesionSegLib.report import (
    AlignmentFacts,
    TriedAlignment,
    scan_report,
    without_paths,
    write_scan_report,
)
from StrokeLesionSegLib.report.page import element
from StrokeLesionSegLib.report.scan_pictures import mosaic_indices

LEFT, RIGHT = (-36.0, -12.0, 24.0), (36.0, -12.0, 24.0)
HOSTILE = (
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "</title></style></svg><script>alert(2)</script>",
    "&lt;b&gt; javascript:alert(3) {{7*7}} ${7*7}",
    "a\0b\x1b[31m\u202etxt.exe\u2028\ud800",
)


def test_sections_and_what_they_say() -> None:
    regions = RegionTable(
        "My atlas",
        (
            RegionVolume("insula", "left", 5.0, 0.5, 5 / 7),
            RegionVolume("insula", "right", 1.25, None, 1.25 / 7),
            RegionVolume("both", "left", 5.0, 0.25, 5 / 7, UNION),
        ),
        0.75,
        ("It is shifted.",),
    )
    page = parse(scan_report(make_content((LEFT, RIGHT), regions=regions)))
    assert titles(page) == [
        "Summary",
        "Overview",
        "Lesions",
        "Each lesion in three planes",
        "Uncertainty",
        "Side-to-side comparison",
        "Volumes by region",
        "Alignment to MNI152",
        "Check by a reader",
        "How this was made",
    ]
    assert page.one("h1").text == "sub-01_T1w"
    assert page.one("head").one("title").text == "sub-01_T1w: stroke lesion report"
    content = make_content((LEFT, RIGHT))
    total = f"{content.summary.volume_ml:.1f} mL"
    assert f"2 lesions, {total} in all." in section(page, "Summary").text
    # Pictures of both lesions, and the words that have to be there.
    assert len(section(page, "Each lesion in three planes").all("figure")) == 2
    assert "Overlap with the MNI152 brain 95 %" in section(page, "Alignment to MNI152").text
    assert "0123abcd" * 8 in section(page, "How this was made").text
    for words in ("Not a medical device", "Trained on simulated strokes", "radiological"):
        assert words in page.text
    cellular = [
        [c.text for c in row.children] for row in section(page, "Volumes by region").all("tr")
    ]
    # A side stands once, above its regions, with what lies on it; unions count for nothing there.
    assert cellular[1:] == [
        ["Left", "5.00", "71.4", ""],
        ["insula", "5.00", "71.4", "50.0"],
        ["both", "5.00", "71.4", "25.0"],
        ["Right", "1.25", "17.9", ""],
        ["insula", "1.25", "17.9", "n/a"],
        ["In no region", "0.75", "10.7", ""],
    ]
    for words in ("It is shifted.", "pathway is several of the regions above together"):
        assert words in section(page, "Volumes by region").text


def test_nothing_to_share_out_among_regions() -> None:
    page = parse(scan_report(make_content((), regions=RegionTable("My atlas", (), 0.0))))
    shown = section(page, "Volumes by region")
    assert shown.all("table") == []
    assert "My atlas. There is no lesion to share out" in shown.text


def test_a_reader_can_sign() -> None:
    page = parse(scan_report(make_content((LEFT,))))
    fields = section(page, "Check by a reader").all("dt")
    assert [f.text for f in fields] == ["Result", "Checked by", "Date"]


def test_lesion_table_has_the_measurements() -> None:
    content = make_content((LEFT, RIGHT))
    table = section(parse(scan_report(content)), "Lesions").one("table")
    head, *rows = table.all("tr")
    assert all(cell.attributes["scope"] == "col" for cell in head.children)
    assert "Volume, mL" in head.text
    assert len(rows) == len(content.lesions) == 2
    for row, lesion in zip(rows, content.lesions, strict=True):
        assert row.children[0].tag == "th"
        assert row.children[0].attributes["scope"] == "row"
        values = [cell.text for cell in row.children]
        assert values[0] == str(lesion.label)
        assert float(values[1]) == pytest.approx(lesion.volume_ml, abs=0.051)
        assert values[2] == lesion.side
        centre = [float(v) for v in values[3].replace("−", "-").split(",")]
        assert centre == pytest.approx(lesion.centroid_mni_mm, abs=0.51)
        assert float(values[5]) == pytest.approx(lesion.mean_probability, abs=0.0051)


def test_without_lesions() -> None:
    page = parse(scan_report(make_content(())))
    assert "No lesion was found. This does not rule out a stroke." in section(page, "Summary").text
    assert "Lesions" not in titles(page)
    assert "Each lesion in three planes" not in titles(page)
    assert "nowhere above 0.1" in section(page, "Uncertainty").text
    assert not page.all("path", "lesion")
    assert len(cells(section(page, "Overview").one("svg"))) > 10


def test_rejected_lesions_are_listed_but_neither_counted_nor_shown() -> None:
    content = make_content((LEFT, RIGHT))
    first, second = content.lesions
    labels = np.where(content.labels == second.label, 0, content.labels)
    changed = replace(content, lesions=(first, replace(second, keep=False)), labels=labels)
    page = parse(scan_report(changed))
    assert "One lesion" in section(page, "Summary").text
    assert "2 (rejected)" in section(page, "Lesions").text
    assert len(section(page, "Each lesion in three planes").all("figure")) == 1


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_lesion_is_drawn_on_its_side(convention: str, side: str) -> None:
    content = make_content((LEFT if side == "left" else RIGHT,), convention=convention)
    page = parse(scan_report(content))
    assert f"on the patient's {side}" in section(page, "Summary").text
    letter = {"left": "L", "right": "R"}[side]
    svg = section(page, "Overview").one("svg")
    pixels = picture(svg)
    drawn = [cell for cell in cells(svg) if cell.outlines.get("lesion")]
    assert len(drawn) >= 2
    for cell in drawn:
        (loop,) = cell.outlines["lesion"]
        middle = (cell.texts["L"] + cell.texts["R"]) / 2
        x, y = loop.mean(axis=0)
        # On the half of its letter, where the convention puts the letter.
        assert (x > middle) == (cell.texts[letter] > middle)
        assert (cell.texts["L"] > cell.texts["R"]) == (convention == "radiological")
        # And the voxels of the lesion, brighter than all others, are exactly within the outline.
        assert pixels[int(y), int(x)] >= 248
        left, top = loop.min(axis=0)
        right, bottom = loop.max(axis=0)
        bright = np.argwhere(pixels[int(cell.y) :, int(cell.x) :][:70, :58] >= 248)
        rows, columns = bright[:, 0] + cell.y, bright[:, 1] + cell.x
        assert (rows.min(), rows.max() + 1) == (top, bottom)
        assert (columns.min(), columns.max() + 1) == (left, right)


def test_sides_stand_once_a_row_beside_the_slices() -> None:
    page = parse(scan_report(make_content((LEFT,))))
    svg = section(page, "Overview").one("svg", "sheet")
    left, _, width, _ = (float(v) for v in str(svg.attributes["viewbox"]).split())
    drawn = cells(svg)
    rows = len({cell.y for cell in drawn})
    letters = svg.all("text", "row")
    assert [t.text for t in letters] == ["R", "L"] * rows
    assert not [t for g in svg.all("g") for t in g.all("text", "side")]
    # Outside of all pictures, and within the sheet.
    picture_width = float(svg.all("image")[0].attributes["width"] or 0)
    for text in letters:
        x = float(text.attributes["x"] or 0)
        assert left < x < 0 or picture_width < x < left + width
    # Planes of several kinds, in which the sides differ, have their own.
    planes = section(page, "Each lesion in three planes").one("svg", "sheet")
    assert len(planes.all("text", "side")) == 6
    assert not planes.all("text", "row")


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
def test_three_planes_cross_in_the_lesion(convention: str) -> None:
    centre = (-37.5, 19.5, 45.0)  # a voxel's centre
    page = parse(scan_report(make_content((centre,), convention=convention)))
    svg = section(page, "Each lesion in three planes").one("svg")
    axial, coronal, sagittal = cells(svg)
    pixels = picture(svg)
    for cell, group in zip((axial, coronal, sagittal), svg.all("g"), strict=True):
        cross = group.one("path", "cross").attributes["d"]
        y = float(re.match(r"M0 ([\d.]+)H", cross)[1]) + cell.y
        x = float(re.search(r"M([\d.]+) 0V", cross)[1]) + cell.x
        (loop,) = cell.outlines["lesion"]
        np.testing.assert_allclose((loop.min(axis=0) + loop.max(axis=0)) / 2, (x, y))
        assert pixels[int(y), int(x)] >= 248
        # In front of the brain's middle (y -18 mm) and above it: up, and to the left in sagittal.
        if cell is sagittal:
            assert set(cell.texts) >= {"A", "P"}
            assert x < (cell.texts["A"] + cell.texts["P"]) / 2
        else:
            assert (cell.texts["L"] > cell.texts["R"]) == (convention == "radiological")


def test_mirror_shows_the_other_side_within_the_outline() -> None:
    content = make_content((LEFT,))
    # A mark in the right hemisphere, at the lesion's mirror place.
    content.t1[ball(RIGHT, 4.0)] = 60
    page = parse(scan_report(content))
    part = section(page, "Side-to-side comparison")
    svg = part.one("svg")
    own, other = cells(svg)
    pixels = picture(svg)
    (loop,) = own.outlines["lesion"]
    (opposite,) = other.outlines["opposite"]
    np.testing.assert_allclose(loop - (own.x, own.y), opposite - (other.x, other.y))
    assert own.texts["L"] > own.texts["R"]
    assert other.texts["L"] < other.texts["R"]
    x, y = (int(v) for v in opposite.mean(axis=0))
    assert pixels[y, x] == 60
    assert pixels[int(loop.mean(axis=0)[1]), int(loop.mean(axis=0)[0])] >= 248
    # 252 within, mostly 120 opposite.
    assert "99 % of the display window within the outline, 46 % on the opposite" in part.text


def test_uncertainty_is_coloured_where_it_is() -> None:
    content = make_content((LEFT,))
    uncertainty = np.zeros(SHAPE, dtype=np.float32)
    uncertainty[ball(RIGHT, 10.0)] = 0.5
    uncertainty[ball((0.0, 40.0, 24.0), 8.0)] = 0.09  # below the scale
    page = parse(
        scan_report(
            replace(content, uncertainty=uncertainty, passes=("axial", "axial, flipped ij"))
        )
    )
    part = section(page, "Uncertainty")
    assert "over 2 passes (axial; axial, mirrored left to right and front to back)" in part.text
    sheet, scale = part.one("svg", "sheet"), part.one("svg", "legend")
    assert scale.text.startswith("Colour scale: standard deviation of the probability")
    assert [t.text for t in scale.all("text", "tick")] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    heat = picture(sheet, layer=1)
    rows, columns = np.nonzero(heat[..., 3])
    assert rows.size
    assert (heat[rows, columns] == heat[rows[0], columns[0]]).all()
    drawn = cells(sheet)
    for row, column in zip(rows, columns, strict=True):
        cell = max((c for c in drawn if c.x <= column and c.y <= row), key=lambda c: (c.y, c.x))
        assert column < (cell.texts["L"] + cell.texts["R"]) / 2  # the patient's right


def test_uncertainty_says_what_it_is() -> None:
    for passes, words in (
        (("axial",), "One pass was made"),
        # A reader of the page has no command line.
        (("axial",), "Flipped copies or slices of three views would be several passes."),
        ((), "Standard deviation of the probability, at most 0.5."),
    ):
        page = parse(scan_report(make_content((LEFT,), passes=passes)))
        assert words in section(page, "Uncertainty").text


def test_failed_alignment_and_what_else_is_suspicious() -> None:
    content = make_content((LEFT,), aligned=False, probability=0.55)
    failed = AlignmentFacts(False, "The brain was not found.", 0.1, 0.2)
    warning = "The scan could not be aligned to MNI152 (The brain was not found); it is used."
    page = parse(scan_report(replace(content, alignment=failed, warnings=(warning, "Odd header."))))
    box = page.one("div", "attention")
    lines = [item.text for item in box.all("li")]
    assert lines[0] == (
        "The alignment to MNI152 failed: The brain was not found. "
        "The scan was segmented as it lies."
    )
    assert "mean probability 0.55" in lines[1]
    # Said once, though the engine's warning says it too.
    assert lines[2] == "Odd header."
    assert "Sides are relative to the middle of the scan" in lines[3]
    part = section(page, "Alignment to MNI152")
    assert "failed and was not used: The brain was not found." in part.text
    assert not part.all("svg")
    assert "which is not aligned" in section(page, "Side-to-side comparison").text


def test_a_failed_alignment_is_shown_where_it_put_the_scan() -> None:
    moved = np.roll(make_content((LEFT,)).t1, 6, axis=2)
    content = replace(
        make_content((LEFT,), aligned=False),
        alignment=AlignmentFacts(False, "The overlap is too small.", 0.4, 0.1),
        tried=TriedAlignment(moved, brain(), AFFINE),
    )
    part = section(parse(scan_report(content)), "Alignment to MNI152")
    assert "it was not used" in part.text
    right = section(
        parse(scan_report(replace(content, tried=TriedAlignment(content.t1, brain(), AFFINE)))),
        "Alignment to MNI152",
    )
    drawn = [len(part.one("svg").all("path", "brain")) for part in (part, right)]
    assert drawn[0] == drawn[1] > 0
    assert not np.array_equal(picture(part.one("svg")), picture(right.one("svg")))


def test_alignment_picture_has_the_brain() -> None:
    content = make_content((LEFT,))
    svg = section(parse(scan_report(content)), "Alignment to MNI152").one("svg")
    pixels = picture(svg)
    for cell in cells(svg):
        (loop,) = cell.outlines["brain"]
        x, y = (int(v) for v in loop.mean(axis=0))
        assert pixels[y, x] > 0
        left = int(loop[:, 0].min())
        assert pixels[y, left - 2 : left].max() == 0
    assert len(cells(svg)) == 6


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("height", "radius"), [(-69.0, 1.0), (-39.0, 1.0), (78.0, 4.0)])
def test_every_lesion_has_a_slice(aligned: bool, height: float, radius: float) -> None:
    """Small ones that lie between the slices, or below the first of them, too."""
    centres = ((-37.5, -13.5, 24.0), (19.5, -40.5, height), (10.5, 10.5, -12.0))
    content = make_content(centres, radius=radius, aligned=aligned)
    assert len(content.lesions) == 3
    page = parse(scan_report(content))
    drawn = cells(section(page, "Overview").one("svg"))
    assert 24 <= len(drawn) <= 27
    shown = mosaic_indices(content)
    assert shown == sorted(set(shown))
    for lesion in content.lesions:
        assert (content.labels[shown] == lesion.label).any()


def test_many_lesions_are_cut_off_and_said_so() -> None:
    centres = tuple((x, y, z) for x in (-45, -15, 15, 45) for y in (-60, -20, 20) for z in (0, 40))
    content = make_content(centres, radius=4.0)
    assert len(content.lesions) == 24
    page = parse(scan_report(content))
    assert len(section(page, "Each lesion in three planes").all("figure")) == 12
    assert "Only the 12 largest of 24 lesions" in section(page, "Each lesion in three planes").text
    assert len(section(page, "Lesions").all("tr")) == 25
    assert "Many lesions: 24" in page.one("div", "attention").text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    content = make_content(
        (LEFT,),
        name=text,
        warnings=(text,),
        intended_use=text,
        created=text,
        alignment=AlignmentFacts(False, text, 0.0, 0.0),
        source=((text, text),),
        model=((text, text),),
        regions=RegionTable(text, (RegionVolume(text, text, 1.0, 0.0),), 0.0, (text,)),
    )
    page = scan_report(content)
    page.encode("utf-8")
    tree = parse(page)
    tree_of_plain = parse(
        scan_report(make_content((LEFT,), warnings=("x",), regions=content.regions))
    )
    assert not tree.all("script")
    assert {n.tag for n in _walk(tree)} <= {n.tag for n in _walk(tree_of_plain)}
    assert not [a for n in _walk(tree) for a in n.attributes if a.startswith("on")]
    visible = "".join(c for c in text if c.isprintable())
    assert max(visible.split(), key=len)[:20] in tree.one("h1").text.replace("\ufffd", "")
    for character in "\0\x1b\u202e\u2028\ud800":
        assert character not in page


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_attributes_stay_attributes(value: str) -> None:
    tree = parse(f"<!DOCTYPE html><html>{element('p', 'x', lang=value, class_=value)}</html>")
    (made,) = tree.children
    assert made.text == "x"
    assert set(made.attributes) == {"lang", "class"}
    plain = [c for c in value if c.isprintable()]
    assert [c for c in made.attributes["lang"] if c in plain] == plain


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    write_scan_report(file, make_content((LEFT, RIGHT)))
    page = file.read_text(encoding="utf-8")
    tree = parse(page)
    assert_alone(tree)
    assert len(page) < 3_000_000
    # The style sheet is the one whose hash the policy names, and no element has a style.
    style = tree.one("style").words[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = policy_of(tree)
    assert policy["style-src"] == [f"'sha256-{digest}'"]
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert "script-src" not in policy


def policy_of(tree: Node) -> dict[str, list[str]]:
    (meta,) = [
        m for m in tree.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    parts = [part.split() for part in meta.attributes["content"].split(";")]
    return {name: sources for name, *sources in parts}


def assert_alone(tree: Node) -> None:
    """No element of the page loads anything, nor has an inline style or handler."""
    for node in _walk(tree):
        assert node.tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
        for name, value in node.attributes.items():
            assert name not in {"style", "src", "srcset", "action"}, (node.tag, name)
            assert not name.startswith("on"), (node.tag, name)
            if name == "href":
                allowed = "data:image/png;base64," if node.tag == "image" else "./"
                assert value.startswith(allowed), value
    style = tree.one("style").words[0]
    assert not re.search(r"url\(|@import|//", style.replace("/*", "").replace("*/", ""))


def _walk(node: Node) -> list[Node]:
    return [node, *(n for child in node.children for n in _walk(child))]


def test_pictures_have_words_and_headings_are_in_order() -> None:
    tree = parse(scan_report(make_content((LEFT, RIGHT))))
    assert tree.attributes["lang"] == "en"
    for svg in tree.all("svg"):
        assert svg.attributes["role"] == "img"
        assert len(svg.children[0].text) > 20
        assert svg.children[0].tag == "title"
    levels = [int(n.tag[1]) for n in _walk(tree) if re.fullmatch("h[1-6]", n.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for table in tree.all("table"):
        assert table.all("caption")
    assert len(tree.all("main")) == len(tree.all("header")) == len(tree.all("footer")) == 1


def test_page_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_scan_report(file, make_content(()), overwrite=False)
    assert file.read_text() == "mine"
    write_scan_report(file, make_content(()))
    assert file.read_text(encoding="utf-8").endswith("</html>\n")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_scan_report(tmp_path / "missing" / "r.html", make_content(()))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/data/Doe, John/scan 1.nii: is broken", "scan 1.nii: is broken"),
        ("cannot read /srv/O'Neil (old)/a.nii.", "cannot read a.nii."),
        (r"C:\Users\Doe\scan.nii is short", "scan.nii is short"),
        (r"see \\server\share\Doe\x.nii", "see x.nii"),
        ("file:///home/doe/x.nii", "x.nii"),
        ("2 and/or 3 of 4/5 are 1.5 mm / 2 mm", "2 and/or 3 of 4/5 are 1.5 mm / 2 mm"),
        ("sub-01/anat/x.nii.gz is constant", "sub-01/anat/x.nii.gz is constant"),
    ],
)
def test_folders_are_cut_off(text: str, left: str) -> None:
    assert without_paths(text) == left


def test_content_is_checked() -> None:
    content = make_content(())
    with pytest.raises(ValueError, match="labels of shape"):
        replace(content, labels=np.zeros((2, 2, 2), dtype=np.int32))
    with pytest.raises(ValueError, match="uint8"):
        replace(content, t1=content.t1.astype(np.float32))
    with pytest.raises(ValueError, match="axes along R, A, S"):
        replace(content, affine=AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="convention"):
        replace(content, convention="left is left")
