"""The page of two scans of one person, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr, counted
from ..lesions.change import NOT_COVERED, GroupChange, total_change_ml
from ..lesions.measure import Summary
from .content import RADIOLOGICAL, Fact
from .page import Markup, document, element, paragraph, section, table, timestamp, write_page
from .pictures import Cell, Views, crop_box, sheet
from .scan_page import banner, footer, ml, signed, tile
from .scan_pictures import convention_note

#: Groups that get their own pictures.
MOST_PICTURES = 12
_HEAD_ABOVE = 30
_AXES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class ChangeSide:
    """One of the two scans, halfway between them.

    Attributes
    ----------
    name: what the page calls it. grey: (K, J, I) grey values. labels: (K, J, I), 0 outside lesions,
    else their numbers. summary: of all its lesions, on its own grid.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import Summary
    >>> from StrokeLesionSegLib.report import ChangeSide
    >>> grey = np.zeros((4, 4, 4), np.float32)
    >>> ChangeSide("first", grey, grey > 0, Summary(0, 0, 0, 0, 0, "")).name
    'first'
    """

    name: str
    grey: NDArray[np.float32]
    labels: NDArray[np.integer]
    summary: Summary

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class ChangeContent:
    """Everything on the page; arrays of both sides share one RAS grid.

    Attributes
    ----------
    first, second: the scans. affine: 4x4, ijk of the grid to mm. groups: what became of the
    lesions. similarity: of the two scans. convention: "radiological" or "neurological".
    links: titles and relative addresses of the pages of its study.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import Summary
    >>> from StrokeLesionSegLib.report import ChangeContent, ChangeSide
    >>> grey = np.zeros((4, 4, 4), np.float32)
    >>> side = ChangeSide("first", grey, grey > 0, Summary(0, 0, 0, 0, 0, ""))
    >>> ChangeContent(side, side, np.eye(4), (), 0.99).convention
    'radiological'
    """

    first: ChangeSide
    second: ChangeSide
    affine: NDArray[np.float64]
    groups: Sequence[GroupChange]
    similarity: float
    convention: str = RADIOLOGICAL
    links: Sequence[Fact] = ()

    __repr__ = brief_repr


def write_change_report(path: str | os.PathLike[str], content: ChangeContent) -> None:
    """Write the page, complete or not at all.

    Raises ``InputError`` if it cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.lesions import Summary
    >>> from StrokeLesionSegLib.report import ChangeContent, ChangeSide, write_change_report
    >>> grey = np.zeros((4, 4, 4), np.float32)
    >>> side = ChangeSide("first", grey, grey > 0, Summary(0, 0, 0, 0, 0, ""))
    >>> write_change_report("change.html", ChangeContent(side, side, np.eye(4), (), 0.99))
    >>> "No lesion in either scan" in Path("change.html").read_text(encoding="utf-8")
    True
    """
    created = timestamp()
    title = f"{content.first.name} and {content.second.name}"
    body = [
        _links(content.links),
        banner("Change of stroke lesions", title, created, ""),
        element("main", _summary(content), _table(content), _pictures(content), _how(content)),
        footer(),
    ]
    write_page(path, document(f"{title}: change of stroke lesions", body), overwrite=True)


def _links(links: Sequence[Fact]) -> Markup | None:
    if not links:
        return None
    shown = [element("a", title, href=address) for title, address in links]
    bar = element("div", *shown, class_="controls")
    return element("nav", bar, class_="review screen", aria_label="Study")


def _summary(content: ChangeContent) -> Markup:
    before, after = content.first.summary.volume_ml, content.second.summary.volume_ml
    if not content.groups:
        sentence = "No lesion in either scan."
    else:
        kinds = [group.kind for group in content.groups]
        told = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        sentence = (
            f"{ml(before)} mL in the first scan, {ml(after)} mL in the second. "
            f"{counted(len(kinds), 'group')} of lesions: "
            f"{', '.join(told)}."
        )
    tiles = [
        tile("First", ml(before), "mL"),
        tile("Second", ml(after), "mL"),
        tile("Change", signed(total_change_ml(content.groups)), "mL"),
        tile("Beyond repeat noise", str(sum(_counts(group) for group in content.groups))),
    ]
    return section(
        "Summary",
        paragraph(sentence, class_="verdict"),
        element("dl", *tiles, class_="tiles"),
        class_="summary",
    )


def _counts(group: GroupChange) -> bool:
    return group.kind != NOT_COVERED and group.beyond_noise


def _table(content: ChangeContent) -> Markup | None:
    if not content.groups:
        return None
    rows = []
    for group in content.groups:
        known = group.kind != NOT_COVERED
        rows.append(
            [
                str(group.number),
                group.kind,
                group.side,
                ml(group.a_ml),
                ml(group.b_ml),
                signed(group.change_ml) if known else "n/a",
                f"± {ml(group.noise_ml)}" if known else "n/a",
                ("yes" if group.beyond_noise else "no") if known else "n/a",
                ml(group.not_covered_ml),
            ]
        )
    columns = [
        ("Group", "number"),
        ("Class", "text"),
        ("Side", "text"),
        ("First, mL", "number"),
        ("Second, mL", "number"),
        ("Change, mL", "number"),
        ("Repeat noise, mL", "number"),
        ("Beyond it", "text"),
        ("Not covered, mL", "number"),
    ]
    caption = (
        "A group holds the lesions of both scans that touch. Volumes are measured on each scan's "
        "own grid, of what both scans cover. Repeat noise is what a lesion may seem to change by "
        "between two scans of one day."
    )
    return section("What became of the lesions", table(columns, rows, caption))


def _pictures(content: ChangeContent) -> Markup | None:
    if not content.groups:
        return None
    greys = [_grey(side.grey) for side in (content.first, content.second)]
    # What either scan shows: a lesion that only one of them covers is to be seen, too.
    shown = (greys[0] > _HEAD_ABOVE) | (greys[1] > _HEAD_ABOVE)
    views = Views(content.convention, crop_box(shown, 2))
    figures = []
    for group in content.groups[:MOST_PICTURES]:
        inside = [
            np.isin(content.first.labels, group.lesions_a) & (content.first.labels > 0),
            np.isin(content.second.labels, group.lesions_b) & (content.second.labels > 0),
        ]
        both = inside[0] | inside[1]
        if not both.any():
            continue
        at = [round(float(part.mean())) for part in np.nonzero(both)]
        cells = []
        sides = (("first", content.first), ("second", content.second))
        for (when, side), grey, mask in zip(sides, greys, inside, strict=True):
            for axis in range(3):
                others = (side.labels > 0) & ~mask
                cells.append(
                    Cell(
                        views.plane(grey, axis, at[axis]),
                        views.letters(axis),
                        when,
                        outlines=[
                            (views.plane(others, axis, at[axis]), "other"),
                            (views.plane(mask, axis, at[axis]), "lesion"),
                        ],
                    )
                )
        change = "" if group.kind == NOT_COVERED else f", {signed(group.change_ml)} mL"
        title = f"Group {group.number}: {group.kind}{change}"
        described = (
            f"{title}. {', '.join(_AXES)} planes of {content.first.name} above, "
            f"of {content.second.name} below"
        )
        picture = element("div", sheet(cells, 3, described, shown=980), class_="pan")
        framed = element("figure", picture, class_="ortho")
        figures.append(element("div", element("h3", title), framed, class_="group"))
    note = (
        f"The first scan ({content.first.name}) above, the second ({content.second.name}) below, "
        f"both turned halfway towards each other. {convention_note(content.convention)}"
    )
    if len(content.groups) > MOST_PICTURES:
        note += f" Only the {MOST_PICTURES} largest of {len(content.groups)} groups are shown."
    return section("Side by side", paragraph(note, class_="lead"), *figures)


def _grey(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values for the eye, scaled to what is brighter than the background."""
    above = array[array > 0]
    if not above.size:
        return np.zeros(array.shape, np.uint8)
    high = float(np.percentile(above, 99.5)) or 1.0
    return np.clip(array * (255.0 / high), 0, 255).astype(np.uint8)


def _how(content: ChangeContent) -> Markup:
    return section(
        "How this was made",
        paragraph(
            "The scans were aligned rigidly, both resampled by half of the movement. They resemble "
            f"each other with a rank correlation of {content.similarity:.3f}; scans of one person "
            "reach at least 0.85."
        ),
    )
