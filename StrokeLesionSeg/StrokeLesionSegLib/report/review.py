"""Quality control of a study: a bar on each scan's page to rate it and to go to the next one.

Ratings are kept by the browser under the study's identity and the scan's name, so that two studies
with a ``sub-01`` never mix, and leave it as a table that names the study in every line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .content import GroupScan, ReportContent
from .page import Inline, Markup, Shared, element, resource_text, safe_address

#: The list of the study's pages, beside them.
STUDY_LIST = "study.js"
#: Value in tables, what it is called, its key.
RATINGS = (
    ("accepted", "Accept", "1"),
    ("correct", "To be corrected", "2"),
    ("rejected", "Reject", "3"),
)


def review_bar(content: ReportContent) -> Markup | None:
    """The bar at the top of a page of a study; None elsewhere."""
    study = content.study
    if study is None:
        return None
    buttons = [
        element(
            "button",
            title,
            element("kbd", key),
            type="button",
            data_rating=value,
            aria_pressed="false",
        )
        for value, title, key in RATINGS
    ]
    comment = element(
        "input",
        type="text",
        id="review-comment",
        placeholder="Comment",
        aria_label="Comment",
        maxlength=2000,
    )
    return element(
        "nav",
        element(
            "div",
            element("a", "Group", href=study.group, id="review-group"),
            element("a", "‹ Previous", element("kbd", "p"), id="review-previous", hidden=True),
            element("a", "Next ›", element("kbd", "n"), id="review-next", hidden=True),
            element("a", "Next unrated", element("kbd", "u"), id="review-unrated", hidden=True),
            element("span", id="review-place"),
            class_="controls",
        ),
        element(
            "div",
            *buttons,
            comment,
            element("kbd", "m"),
            element("span", id="review-state", aria_live="polite"),
            class_="controls",
            id="review-rate",
            hidden=True,
        ),
        id="review",
        class_="review screen",
        aria_label="Quality control",
        data_study=study.identity,
        data_scan=study.scan,
        data_root=study.root,
        data_made=content.created,
    )


def review_scripts(content: ReportContent) -> list[Inline | Shared]:
    """The scripts of the bar."""
    if content.study is None:
        return []
    return [
        Shared(content.study.shared + STUDY_LIST),
        Inline(None, resource_text("ratings.js")),
        Inline(None, resource_text("review.js")),
    ]


def study_list(identity: str, scans: Iterable[GroupScan]) -> str:
    """The script that tells each page which others there are, in the order of the group's table.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import GroupScan, study_list
    >>> print(study_list("0f3a", [GroupScan("sub-01", "done", page="sub-01/page.html")]))
    window.strokeLesionStudy = {"study": "0f3a", "scans": [["sub-01", "./sub-01/page.html"]]};
    <BLANKLINE>
    """
    pages = [(scan.name, safe_address(scan.page)) for scan in scans if scan.state == "done"]
    listed = {"study": identity, "scans": [[name, page] for name, page in pages if page]}
    return f"window.strokeLesionStudy = {json.dumps(listed)};\n"


def group_review(identity: str) -> Markup:
    """What the group's page offers: how far the ratings are, a table out and in."""
    return element(
        "div",
        element("p", id="ratings-state", aria_live="polite"),
        element(
            "div",
            element("a", "Rate the next scan", id="ratings-start", hidden=True),
            element("button", "Save ratings", type="button", id="ratings-save"),
            element(
                "label",
                "Load ratings ",
                element("input", type="file", id="ratings-file", accept=".tsv,text/plain"),
                class_="button",
            ),
            class_="controls",
        ),
        element("p", id="ratings-note", class_="attention", role="status", hidden=True),
        id="ratings",
        class_="screen",
        data_study=identity,
    )
