"""The page of one scan, put together from its sections."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..lesions.regions import REGION, UNION, RegionVolume
from .concerns import concerns, further
from .content import RADIOLOGICAL, ReportContent
from .page import (
    Markup,
    document,
    element,
    facts,
    joined,
    paragraph,
    safe_address,
    section,
    table,
    write_page,
)
from .review import review_bar, review_scripts
from .scan_pictures import (
    alignment_figure,
    lesion_figures,
    mosaic_figure,
    side_figures,
    uncertainty_figure,
)
from .viewer import allowed_scripts, viewer_scripts, viewer_section

NOTICE = "For research. Not a medical device. Not for diagnosis or treatment."


def write_scan_report(
    path: str | os.PathLike[str], content: ReportContent, *, overwrite: bool = True
) -> None:
    """Write the page of one scan, complete or not at all.

    Raises ``InputError`` if it exists and ``overwrite`` is false, or cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.report import report_content, write_scan_report
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> found = find_lesions(np.zeros((16, 32, 32)), np.eye(4), OperatingPoint(0.5))
    >>> write_scan_report("t1.html", report_content(scan, found))
    >>> Path("t1.html").exists()
    True
    """
    write_page(path, scan_report(content), overwrite=overwrite)


def scan_report(content: ReportContent) -> str:
    """The page of one scan as HTML text.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.report import report_content, scan_report
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> found = find_lesions(np.zeros((16, 32, 32)), np.eye(4), OperatingPoint(0.5))
    >>> scan_report(report_content(scan, found))[:15]
    '<!DOCTYPE html>'
    """
    body = [
        review_bar(content),
        banner("Stroke lesion report", content.name, content.created, content.intended_use),
        element(
            "main",
            _verdict(content),
            viewer_section(content),
            mosaic_figure(content),
            _lesion_table(content),
            lesion_figures(content),
            uncertainty_figure(content),
            side_figures(content),
            _regions(content),
            _alignment(content),
            _check(content),
            _details(content),
        ),
        footer("" if content.correction is None else content.correction.who or "a reader"),
    ]
    return document(
        f"{content.name}: stroke lesion report",
        [part for part in body if part is not None],
        scripts=[*viewer_scripts(content), *review_scripts(content)],
        allowed=allowed_scripts(content),
    )


def banner(kind: str, name: str, created: str, intended_use: str) -> Markup:
    """The head of a page."""
    return element(
        "header",
        element(
            "div",
            paragraph(kind, class_="kind"),
            element("h1", name),
            paragraph(f"Made {created} by StrokeLesionSeg", class_="made"),
        ),
        paragraph(NOTICE, class_="notice"),
        paragraph(f"The model: {intended_use}", class_="use") if intended_use else None,
        class_="banner",
    )


def footer(corrected_by: str = "") -> Markup:
    """The disclaimers that end a page."""
    made = "A computer made this report and nobody has checked it. "
    if corrected_by:
        made = f"A computer made this report of a mask that {corrected_by} has corrected. "
    return element(
        "footer",
        element("h2", "Please note"),
        paragraph(
            element("strong", NOTICE),
            f" {made}The software may miss lesions and may show lesions where there are none. It "
            "was not evaluated as a medical device in any country.",
        ),
    )


def ml(volume: float) -> str:
    """A volume in mL with as many decimals as make sense, without the unit."""
    # As precise as the tables: what is computed from them has to look the same.
    volume = round(volume, 6)
    if 0 < volume < 0.005:
        return "< 0.01"
    if volume == 0:
        return "0"
    return f"{volume:.1f}" if volume >= 9.995 else f"{volume:.2f}"


def signed(volume: float) -> str:
    """A change in mL with its sign, without the unit."""
    if abs(volume) < 0.005:
        return "0"
    return ("+" if volume > 0 else "−") + ml(abs(volume))


def tile(title: str, value: str, unit: str = "") -> Markup:
    """A figure with its title, for the top of a page."""
    number = element("dd", value, element("span", f" {unit}", class_="unit") if unit else None)
    return element("div", element("dt", title), number)


def attention(lines: Sequence[str], title: str = "Look at this first") -> Markup | None:
    """A box with what may be wrong; None if nothing is."""
    if not lines:
        return None
    items = [element("li", line) for line in lines]
    return element("div", element("h3", title), element("ul", *items), class_="attention")


def _verdict(content: ReportContent) -> Markup:
    summary = content.summary
    kept = [lesion for lesion in content.lesions if lesion.keep]
    if kept:
        largest = max(kept, key=lambda lesion: lesion.volume_ml)
        where = {"both": "on both sides"}.get(largest.side, f"on the patient's {largest.side}")
        number = "One lesion" if len(kept) == 1 else f"{len(kept)} lesions"
        whose = "It lies" if len(kept) == 1 else f"The largest, {ml(largest.volume_ml)} mL, lies"
        sentence = f"{number}, {ml(summary.volume_ml)} mL in all. {whose} {where}."
    elif content.correction is not None:
        sentence = "The corrected mask is empty."
    else:
        sentence = "No lesion was found. This does not rule out a stroke."
    tiles = element(
        "dl",
        tile("Lesions", str(summary.count)),
        tile("Total volume", ml(summary.volume_ml), "mL"),
        tile("Left", ml(summary.left_ml), "mL"),
        tile("Right", ml(summary.right_ml), "mL"),
        tile("Largest", ml(summary.largest_ml), "mL"),
        None
        if content.expected_dice is None
        else tile("Expected Dice", f"{content.expected_dice:.2f}", "estimated"),
        class_="tiles",
    )
    # What a reader has drawn was looked at.
    doubted = kept if content.correction is None else []
    notes = concerns(
        [lesion.volume_ml for lesion in doubted],
        [lesion.mean_probability for lesion in doubted],
        aligned=None if content.alignment is None else content.alignment.ok,
        alignment_reason="" if content.alignment is None else content.alignment.reason,
    )
    notes += further(content.warnings, notes)
    if summary.side_note:
        notes.append(f"{summary.side_note[0].upper()}{summary.side_note[1:]}.")
    return section(
        "Summary",
        paragraph(sentence, class_="verdict"),
        _corrected(content),
        tiles,
        attention(notes),
        class_="summary",
    )


def _corrected(content: ReportContent) -> Markup | None:
    """Who has corrected the mask and when, and what the model had found."""
    known = content.correction
    if known is None:
        return None
    who = f" by {known.who}" if known.who else ""
    when = f" on {known.when}" if known.when else ""
    agree = "" if known.dice is None else f", Dice with the corrected one {known.dice:.2f}"
    found = f"{ml(known.automatic_ml)} mL{agree}" if known.automatic_ml > 0 else "no lesion"
    drawn = " The dotted lines in the pictures are its outline." if known.automatic.any() else ""
    return paragraph(
        element("strong", f"Corrected{who}{when}."),
        f" All of this page is about the corrected mask. The automatic one: {found}.{drawn} ",
        None
        if (address := safe_address(known.page)) is None
        else element("a", "The page of the automatic mask", href=address, class_="screen"),
        class_="corrected",
    )


def _lesion_table(content: ReportContent) -> Markup | None:
    if not content.lesions:
        return None
    in_mni = any(lesion.centroid_mni_mm for lesion in content.lesions)
    columns = [
        ("No.", "text"),
        ("Volume, mL", "number"),
        ("Side", "text"),
        ("Centre in MNI152 x, y, z, mm" if in_mni else "Centre R, A, S, mm", "number"),
        ("Size R-L × A-P × S-I, mm", "number"),
    ]
    # Where a reader has drawn, nobody has predicted.
    predicted = content.correction is None
    if predicted:
        columns += [("Mean probability", "number"), ("Peak probability", "number")]
    rows = []
    for lesion in content.lesions:
        centre = lesion.centroid_mni_mm if in_mni else lesion.centroid_ras_mm
        rows.append(
            [
                f"{lesion.label}" + ("" if lesion.keep else " (rejected)"),
                ml(lesion.volume_ml),
                lesion.side,
                ", ".join(f"{v:.0f}" for v in centre or ()).replace("-", "−") or "n/a",
                " × ".join(f"{v:.0f}" for v in lesion.extent_mm),
            ]
        )
        if predicted:
            rows[-1] += [f"{lesion.mean_probability:.2f}", f"{lesion.peak_probability:.2f}"]
    caption = (
        "Volumes are measured on the scan's own grid. A side is the patient's and holds at least "
        "95 % of the lesion. Lesions are numbered by size."
    )
    if any(not lesion.keep for lesion in content.lesions):
        caption += " Rejected lesions are not counted above."
    return section("Lesions", table(columns, rows, caption))


def _regions(content: ReportContent) -> Markup | None:
    regions = content.regions
    if regions is None:
        return None
    total = regions.total_ml
    if total <= 0:
        text = f"Atlas: {regions.title}. There is no lesion to share out among its regions."
        return section("Volumes by region", paragraph(text))

    def numbers(row: RegionVolume) -> list[str]:
        parts = (row.share_of_lesion, row.share_of_region)
        return [ml(row.volume_ml), *("n/a" if part is None else _percent(part) for part in parts)]

    def head(title: str, volume_ml: float) -> list[object]:
        heading = element("th", title, scope="rowgroup", class_="part")
        cells = (ml(volume_ml), _percent(volume_ml / total), "")
        return [heading, *(element("td", cell, class_="num part") for cell in cells)]

    def held(side: str) -> float:
        own = (row for row in regions.rows if row.side == side and row.kind == REGION)
        return sum(row.volume_ml for row in own)

    rows: list[list[object]] = []
    for side in sorted({row.side for row in regions.rows}, key=held, reverse=True):
        rows.append(head(side.capitalize() or "Both sides together", held(side)))
        rows += [[row.region, *numbers(row)] for row in regions.rows if row.side == side]
    if regions.outside_ml > 0:
        rows.append(head("In no region", regions.outside_ml))
    columns = [
        ("Region", "text"),
        ("Volume, mL", "number"),
        ("Of all lesions, %", "number"),
        ("Of the region, %", "number"),
    ]
    how = (
        "a deformable alignment that leaves the lesion out; centres and pictures on this page are "
        "placed by the affine one."
        if regions.deformable
        else "an affine alignment, which places cortex only to within some millimetres."
    )
    caption = (
        f"Atlas: {regions.title}. Every lesion voxel counts for the region that holds its centre "
        f"after {how}"
    )
    if any(row.kind == UNION for row in regions.rows):
        caption += " The approximate pathway is several of the regions above together."
    for note in regions.notes:
        caption += f" {note}"
    return section("Volumes by region", table(columns, rows, caption, class_="names regions"))


def _percent(share: float) -> str:
    return "< 0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"


def _alignment(content: ReportContent) -> Markup:
    alignment = content.alignment
    if alignment is None:
        text = (
            "The scan lies on the MNI152 grid already; nothing was aligned."
            if content.space == "MNI152"
            else "The scan was not aligned to MNI152, as asked for."
        )
        shown = alignment_figure(content)
        return section("Alignment to MNI152", paragraph(text), shown, class_="keep")
    reason = alignment.reason.rstrip(". ")
    verdict = (
        "The alignment passed its checks."
        if alignment.ok
        else f"The alignment failed and was not used: {reason}."
    )
    numbers = (
        f" Overlap with the MNI152 brain {100 * alignment.overlap:.0f} %, similarity to the "
        f"template (correlation) {alignment.similarity:.2f}."
    )
    return section(
        "Alignment to MNI152",
        paragraph(verdict + numbers),
        alignment_figure(content),
        class_="keep",
    )


def _check(content: ReportContent) -> Markup:
    """Where the person who has looked at the scan says so, on paper.

    On a page of a study the rating that was given on the screen is ticked when it is printed.
    """
    results: list[object] = []
    for value, title in (
        ("accepted", "accepted"),
        ("correct", "corrected"),
        ("rejected", "rejected"),
    ):
        mark = element("span", "\u2610", data_printed=None if content.study is None else value)
        results += [mark, f" {title} \u2003"]
    said = None if content.study is None else element("span", id="printed-comment")
    fields = [
        element("div", element("dt", title), element("dd", value))
        for title, value in (
            ("Result", joined(results)),
            ("Checked by", ""),
            ("Date", ""),
            *([("Comment", said)] if said is not None else []),
        )
    ]
    return section("Check by a reader", element("dl", *fields, class_="check"), class_="keep")


def _details(content: ReportContent) -> Markup:
    shown = "radiological" if content.convention == RADIOLOGICAL else "neurological"
    space = (
        "aligned to MNI152, resampled to 1 mm"
        if content.space == "MNI152"
        else "as the scan lies, resampled to 1 mm along its axes"
    )
    groups = (
        ("Scan", [*content.source, ("Pictures", f"{shown} convention; {space}")]),
        ("Model", content.model),
        ("Parameters", content.parameters),
        ("Software", content.versions),
    )
    lists = [
        element("div", element("h3", title), facts(pairs), class_="group")
        for title, pairs in groups
        if pairs
    ]
    return section("How this was made", joined(lists), class_="details")
