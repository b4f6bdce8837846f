"""The page of a study's changes: all pairs of sessions, what became of their lesions."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..brief import counted
from ..lesions.change import CLASSES
from .page import (
    Inline,
    Markup,
    document,
    element,
    figure,
    number_cell,
    paragraph,
    resource_text,
    safe_address,
    section,
    sortable,
    table,
    tables_section,
    timestamp,
    without_paths,
    write_page,
)
from .scan_page import banner, footer, ml, signed, tile

#: Pairs that the picture shows; of more it takes those that change most.
MOST_BARS = 120
_HIGH, _WIDE, _LABEL = 110, 640, 64


@dataclass(frozen=True)
class ChangePair:
    """Two sessions of one person on the page of a study.

    Attributes
    ----------
    name: unique. participant, first, second: as in the tables. state: "done" or "failed".
    reason: why it failed. page: relative address of its page.
    first_ml, second_ml: volumes of all lesions. change_ml: of what both scans cover.
    groups: number of groups of lesions by class.
    beyond_noise: groups whose change is beyond repeat noise. corrected: sessions ("first",
    "second") whose mask a reader has corrected. note: what is odd about it.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import ChangePair
    >>> ChangePair("sub-01", "sub-01", "ses-1", "ses-2", "done", change_ml=2.0).change_ml
    2.0
    """

    name: str
    participant: str
    first: str
    second: str
    state: str
    reason: str = ""
    page: str | None = None
    first_ml: float = 0.0
    second_ml: float = 0.0
    change_ml: float = 0.0
    groups: Mapping[str, int] = field(default_factory=dict)
    beyond_noise: int = 0
    corrected: tuple[str, ...] = ()
    note: str = ""


def write_change_group(
    path: str | os.PathLike[str],
    pairs: Sequence[ChangePair],
    *,
    title: str = "Stroke lesions",
    notes: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    home: str | None = None,
) -> None:
    """Write the page of a study's changes, complete or not at all.

    ``notes``: sentences about the study. ``files``: tables beside the page, by relative address,
    with what each is. ``home``: relative address of the study's page.

    Raises ``InputError`` if it cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.report import ChangePair, write_change_group
    >>> pair = ChangePair("sub-01", "sub-01", "ses-1", "ses-2", "failed", "No T1.")
    >>> write_change_group("group_change.html", [pair], title="My study")
    >>> "1 pair of sessions, 1 failed" in Path("group_change.html").read_text(encoding="utf-8")
    True
    """
    created = timestamp()
    done = [pair for pair in pairs if pair.state == "done"]
    notes = [*notes, *(f"{pair.name}: {pair.note}" for pair in done if pair.note)]
    main = element(
        "main",
        _summary(pairs, done),
        _failures(pairs),
        section("To be looked at", *(paragraph(without_paths(note)) for note in notes))
        if notes
        else None,
        _chart(done),
        _table(pairs),
        tables_section(files or {}),
    )
    body = [_bar(home), banner("Change of stroke lesions in a study", title, created, "")]
    body += [main, footer()]
    scripts = [Inline(None, resource_text("group.js"))]
    page = document(f"{title}: change of stroke lesions", body, scripts=scripts)
    write_page(path, page, overwrite=True)


def _bar(home: str | None) -> Markup | None:
    address = safe_address(home)
    if address is None:
        return None
    bar = element("div", element("a", "All scans", href=address), class_="controls")
    return element("nav", bar, class_="review screen", aria_label="Study")


def _pairs(count: int) -> str:
    return f"{counted(count, 'pair')} of sessions"


def _summary(pairs: Sequence[ChangePair], done: Sequence[ChangePair]) -> Markup:
    failed = len(pairs) - len(done)
    moved = [pair for pair in done if pair.beyond_noise]
    sentence = _pairs(len(pairs)) + (f", {failed} failed" if failed else "")
    sentence += f". In {len(moved)} a lesion has changed beyond repeat noise."
    people = len({pair.participant for pair in pairs})
    tiles = [
        tile("Participants", str(people)),
        tile("Pairs", str(len(pairs))),
        tile("Failed", str(failed)),
        tile("Beyond repeat noise", str(len(moved))),
    ]
    if done:
        tiles.append(
            tile("Median change", signed(statistics.median(p.change_ml for p in done)), "mL")
        )
        largest = max((p.change_ml for p in done), key=abs)
        tiles.append(tile("Largest change", signed(largest), "mL"))
    return section(
        "Summary",
        paragraph(sentence, class_="verdict"),
        element("dl", *tiles, class_="tiles"),
        class_="summary",
    )


def _failures(pairs: Sequence[ChangePair]) -> Markup | None:
    rows = [
        [pair.name, without_paths(pair.reason) or "no reason given"]
        for pair in pairs
        if pair.state != "done"
    ]
    if not rows:
        return None
    columns = [("Pair", "text"), ("Reason", "text")]
    told = f"{_pairs(len(rows))}."
    return section("Failed", table(columns, rows, told, class_="names notes"))


def _chart(done: Sequence[ChangePair]) -> Markup | None:
    """A bar for each pair, from the largest shrinkage to the largest growth."""
    if not done:
        return None
    shown = sorted(done, key=lambda pair: -abs(pair.change_ml))[:MOST_BARS]
    shown.sort(key=lambda pair: (pair.change_ml, pair.name))
    most = max(0.01, *(abs(pair.change_ml) for pair in shown))
    up = max([0.0, *(pair.change_ml for pair in shown)]) / most
    down = max([0.0, *(-pair.change_ml for pair in shown)]) / most
    zero = 24 + _HIGH * up
    total = zero + _HIGH * down + 24
    step = (_WIDE - _LABEL) / max(len(shown), 8)
    parts = [element("line", x1=_LABEL, y1=f"{zero:.1f}", x2=_WIDE, y2=f"{zero:.1f}")]
    for value in sorted({most if up == 1 else 0.0, 0.0, -most if down == 1 else 0.0}):
        y = zero - _HIGH * value / most
        parts.append(element("text", signed(value), x=_LABEL / 2 - 2, y=f"{y + 4:.1f}"))
    for n, pair in enumerate(shown):
        height = max(1.0, _HIGH * abs(pair.change_ml) / most)
        y = zero - height if pair.change_ml >= 0 else zero
        told = f"{pair.name}: {signed(pair.change_ml)} mL"
        parts.append(
            element(
                "rect",
                element("title", told),
                x=f"{_LABEL + step * (n + 0.12):.1f}",
                y=f"{y:.1f}",
                width=f"{step * 0.76:.1f}",
                height=f"{height:.1f}",
                class_="c5" if pair.beyond_noise else "c8",
            )
        )
    picture = element(
        "svg",
        element("title", f"Change in mL of {_pairs(len(shown))}, from least to most"),
        *parts,
        viewBox=f"0 0 {_WIDE} {total:.0f}",
        role="img",
        class_="chart",
    )
    caption: list[object] = [
        "Change of all lesions in mL, a bar for each pair of sessions. ",
        element("span", class_="dot c5"),
        "with a lesion that changed beyond repeat noise, ",
        element("span", class_="dot c8"),
        "without.",
    ]
    if len(shown) < len(done):
        caption.append(f" The {len(shown)} that change most of {len(done)}.")
    return section("Change of volume", figure(picture, element("span", *caption)), class_="keep")


def _table(pairs: Sequence[ChangePair]) -> Markup:
    titles = [
        ("Participant", "text"),
        ("Sessions", "text"),
        ("State", "text"),
        ("First, mL", "number"),
        ("Second, mL", "number"),
        ("Change, mL", "number"),
        ("Groups of lesions", "text"),
        ("Beyond noise", "number"),
        ("Corrected", "text"),
    ]
    caption = (
        "Press a heading to sort. Volumes are of all lesions on each scan's own grid, changes of "
        "what both scans cover. Which group became what is in the table of changes."
    )
    rows = [_row(pair) for pair in pairs]
    return section("All pairs", sortable(titles, rows, caption, class_=None))


def _row(pair: ChangePair) -> Markup:
    done = pair.state == "done"
    address = safe_address(pair.page) if done else None
    link = element("a", pair.participant, href=address) if address else pair.participant
    kinds = ", ".join(f"{pair.groups[kind]} {kind}" for kind in CLASSES if pair.groups.get(kind))

    return element(
        "tr",
        element("th", link, scope="row"),
        element("td", f"{pair.first} to {pair.second}", class_="whole"),
        element("td", pair.state, class_=pair.state),
        number_cell(pair.first_ml if done else None, ml(pair.first_ml)),
        number_cell(pair.second_ml if done else None, ml(pair.second_ml)),
        number_cell(pair.change_ml if done else None, signed(pair.change_ml)),
        element("td", (kinds or "no lesion") if done else ""),
        number_cell(pair.beyond_noise if done else None, str(pair.beyond_noise)),
        element("td", " and ".join(pair.corrected) if done else ""),
    )
