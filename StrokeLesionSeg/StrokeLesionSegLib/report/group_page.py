"""The page of a group of scans: what needs attention first, then the whole."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..brief import brief_repr, counted, first_of
from .by_group import Column, Result, by_group, shown_columns, volume_chart
from .concerns import concerns, further, is_shared, mean_probability, shared_by_most
from .content import RADIOLOGICAL, SHARED_FOLDER, FrequencyMap, GroupScan, GroupTraits
from .page import (
    Inline,
    Markup,
    Shared,
    document,
    element,
    facts,
    figure,
    joined,
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
from .pictures import AXIAL, Cell, Views, crop_box, legend, sheet
from .review import STUDY_LIST, group_review
from .scan_page import banner, footer, ml, tile
from .scan_pictures import convention_note

#: Rows beyond this would make browsers slow; the table beside the page has them all.
MOST_ROWS = 20_000
#: Entries of each list at the top that are not folded away.
MOST_LISTED = 200
# Scans without lesion are named up to this number.
_NAMED = 12
MAP_CELLS, MAP_COLUMNS = 18, 6

_STATES = {"done": "done", "failed": "failed", "waiting": "waiting"}


@dataclass(frozen=True, eq=False)
class GroupPage:
    """What stands on the page of a group beside its scans and lesions.

    Attributes
    ----------
    title: of the group.
    frequency: made by ``lesion_frequency``; None leaves the map out.
    facts: parameters, versions, model: printed at the end.
    intended_use: the model's statement.
    convention: "radiological" or "neurological".
    traits: what is known of the people, for the table and for comparing groups.
    files: tables and maps beside the page, by relative address, with what each is.
    study: the study's identity, under which a browser keeps ratings; None offers no ratings.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import GroupPage
    >>> GroupPage("My group", facts={"Model": "stroke-t1-volumetric 1.0"}).study is None
    True
    """

    title: str = "Stroke lesions"
    frequency: FrequencyMap | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    intended_use: str = ""
    convention: str = RADIOLOGICAL
    traits: GroupTraits | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    study: str | None = None

    __repr__ = brief_repr


def write_group_report(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    scans: Iterable[GroupScan],
    page: GroupPage | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write the page of a group, complete or not at all.

    Parameters
    ----------
    path: for example ``OUT/index.html``.
    rows: one mapping for each lesion: ``scan`` (a ``GroupScan.name``), ``volume_ml``,
        ``left_share``, ``mean_probability`` and ``keep``, as in ``lesions.COLUMNS``; values may
        be text, as they are read from a TSV. Rows with ``keep`` false are not counted.
    scans: one for each scan, in the order of the table.
    page: what else is on it.

    Raises ``InputError`` if the page exists and ``overwrite`` is false, or cannot be written;
    ``ValueError`` for a scan that occurs twice or a lesion of a scan that is not in ``scans``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.report import GroupPage, GroupScan, write_group_report
    >>> write_group_report("index.html", [], [GroupScan("sub-01", "done")], GroupPage("My group"))
    >>> "My group" in Path("index.html").read_text(encoding="utf-8")
    True
    """
    write_page(path, group_report(rows, scans, page), overwrite=overwrite)


def group_report(
    rows: Iterable[Mapping[str, Any]],
    scans: Iterable[GroupScan],
    page: GroupPage | None = None,
) -> str:
    """The page of a group as HTML text; see ``write_group_report``.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import GroupScan, group_report
    >>> row = {"scan": "sub-01", "volume_ml": 2.5, "left_share": 1, "mean_probability": 0.8}
    >>> page = group_report([row], [GroupScan("sub-01", "done"), GroupScan("sub-02", "waiting")])
    >>> "1 of 2 scans finished" in page
    True
    """
    page = page or GroupPage()
    title, study, traits = page.title, page.study, page.traits
    results = _results(rows, scans)
    created = timestamp()
    body = [
        banner("Stroke lesion report of a group", title, created, page.intended_use),
        element(
            "main",
            _summary(results),
            None
            if study is None
            else section("Quality control", group_review(study), class_="screen"),
            _failures(results),
            _suspicious(results),
            _histogram(results),
            by_group(results, traits),
            _map(page.frequency, page.convention),
            _table(results, traits, rated=study is not None),
            tables_section(page.files, "Tables and maps"),
            _facts(page.facts),
        ),
        footer(),
    ]
    scripts: list[Inline | Shared] = []
    if study is not None:
        scripts = [
            Shared(f"{SHARED_FOLDER}/{STUDY_LIST}"),
            Inline(None, resource_text("ratings.js")),
        ]
    scripts.append(Inline(None, resource_text("group.js")))
    return document(f"{title}: stroke lesion report", body, scripts=scripts)


def _results(rows: Iterable[Mapping[str, Any]], scans: Iterable[GroupScan]) -> list[Result]:
    scans = list(scans)
    lesions: dict[str, list[tuple[float, float, float]]] = {scan.name: [] for scan in scans}
    if len(lesions) != len(scans):
        raise ValueError("a scan occurs twice in the group")
    for row in rows:
        if str(row.get("keep", True)).lower() == "false":
            continue
        if row["scan"] not in lesions:
            raise ValueError(f"a lesion of {row['scan']!r}, which is not in the group")
        lesions[row["scan"]].append(
            tuple(_number(row[c]) for c in ("volume_ml", "left_share", "mean_probability"))  # type: ignore[arg-type]
        )
    results = []
    for scan in scans:
        own = lesions[scan.name]
        volumes = [volume for volume, _, _ in own]
        probabilities = [probability for _, _, probability in own]
        notes: list[str] = []
        if scan.state == "done":
            # What a reader has drawn was looked at, as its own page and the table say.
            doubted = ([], []) if scan.corrected else (volumes, probabilities)
            notes = concerns(
                *doubted,
                aligned=scan.aligned,
                alignment_reason=scan.alignment_reason,
            )
        warned = further(scan.warnings, notes) if scan.state == "done" else []
        results.append(
            Result(
                scan,
                tuple(volumes),
                sum(volume * share for volume, share, _ in own),
                _known(mean_probability(volumes, probabilities)),
                tuple(without_paths(note) for note in notes),
                tuple(without_paths(warning) for warning in warned),
            )
        )
    return results


def _number(value: Any) -> float:
    """A number of a table; a reader's lesions have no probability, which is NaN here."""
    return math.nan if value in (None, "", "n/a") else float(value)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _summary(results: Sequence[Result]) -> Markup:
    done = [r for r in results if r.done]
    failed = sum(r.scan.state == "failed" for r in results)
    waiting = sum(r.scan.state == "waiting" for r in results)
    found = [r for r in done if r.volumes]
    suspicious = len(_doubtful(results))
    sentence = f"{len(done)} of {_scans(len(results))} finished"
    sentence += f", {failed} failed" if failed else ""
    sentence += f", {waiting} not reached yet" if waiting else ""
    sentence += f". {_scans(len(found))} with lesions"
    sentence += f"; {suspicious} to be looked at." if suspicious else "."
    tiles = [
        tile("Scans", str(len(results))),
        tile("Failed", str(failed)),
        tile("With lesions", str(len(found))),
        tile("To be looked at", str(suspicious)),
    ]
    if found:
        totals = [r.total for r in found]
        tiles.append(tile("Median, if any lesion", ml(statistics.median(totals)), "mL"))
        tiles.append(tile("Largest volume", ml(max(totals)), "mL"))
    return section(
        "Summary",
        paragraph(sentence, class_="verdict"),
        element("dl", *tiles, class_="tiles"),
        class_="summary",
    )


def _failures(results: Sequence[Result]) -> Markup | None:
    failed = [r for r in results if r.scan.state == "failed"]
    if not failed:
        return None
    rows = [[r.scan.name, without_paths(r.scan.reason) or "no reason given"] for r in failed]
    return _listed("Failed scans", [("Scan", "text"), ("Reason", "text")], rows)


def _suspicious(results: Sequence[Result]) -> Markup | None:
    # Lesions that make a result doubtful come before what was merely odd.
    doubtful = sorted(_doubtful(results), key=lambda r: (not r[0].notes, -len(r[1]), -r[0].total))
    more = [
        f"{count} of the scans: {kind}"
        for kind, count in shared_by_most(_warnings(results)).items()
    ]
    empty = [r.scan.name for r in results if r.done and not r.volumes]
    if empty:
        more.append(f"No lesion was found in {_scans(len(empty))}: {first_of(empty, _NAMED)}.")
    if not doubtful and not more:
        return None
    rows: list[list[object]] = [[_link(r.scan), " ".join(why)] for r, why in doubtful]
    title, below = "To be looked at", [paragraph(text) for text in more]
    if not rows:
        return section(title, *below)
    return _listed(title, [("Scan", "text"), ("Why", "text")], rows, below)


def _warnings(results: Sequence[Result]) -> list[tuple[str, ...]]:
    return [r.warned for r in results if r.done]


def _doubtful(results: Sequence[Result]) -> list[tuple[Result, tuple[str, ...]]]:
    """Scans to be looked at, with the reasons: not those that most of the group share."""
    shared = shared_by_most(_warnings(results))
    found = [
        (r, (*r.notes, *(text for text in r.warned if not is_shared(text, shared))))
        for r in results
    ]
    return [(r, why) for r, why in found if why]


def _listed(
    title: str,
    columns: list[tuple[str, str]],
    rows: Sequence[Sequence[object]],
    below: Sequence[Markup] = (),
) -> Markup:
    if len(rows) <= MOST_LISTED:
        caption = f"{_scans(len(rows))}."
        return section(title, table(columns, rows, caption, class_="names notes"), *below)
    caption = f"The first {MOST_LISTED} of {_scans(len(rows))}; the others can be unfolded below."
    shown = table(columns, rows[:MOST_LISTED], caption, class_="names notes")
    others = rows[MOST_LISTED:MOST_ROWS]
    told = f"The others, up to number {MOST_LISTED + len(others)}"
    rest = table(columns, others, f"{told}.", class_="names notes")
    return section(title, shown, element("details", element("summary", told), rest), *below)


def _histogram(results: Sequence[Result]) -> Markup | None:
    done = [r.total for r in results if r.done]
    if not done:
        return None
    caption = "Number of finished scans by their lesion volume in mL; the steps grow threefold."
    return section("Lesion volume", figure(volume_chart([done]), caption))


def _map(frequency: FrequencyMap | None, convention: str) -> Markup | None:
    heading = "Where the lesions lie"
    if frequency is None or frequency.scans == 0:
        if frequency is None or frequency.left_out == 0:
            return None
        return section(heading, paragraph("No scan is aligned to MNI152, so there is no map."))
    most = int(frequency.counts.max())
    if most == 0:
        return section(heading, paragraph("No aligned scan has a lesion."))
    views = Views(convention, crop_box(frequency.background > 25, 2))
    bottom, top = views.box[0].start, views.box[0].stop
    step = (top - bottom) // (MAP_CELLS + 1)
    cells = []
    for n in range(1, MAP_CELLS + 1):
        index = bottom + n * step
        height = frequency.affine[2, 3] + index * frequency.affine[2, 2]
        cells.append(
            Cell(
                views.plane(frequency.background, AXIAL, index),
                views.letters(AXIAL),
                f"z {height:.0f}".replace("-", "−"),
                heat=views.plane(frequency.counts, AXIAL, index) / most,
            )
        )
    picture = sheet(
        cells,
        MAP_COLUMNS,
        f"Axial slices of the MNI152 template, coloured by the number of scans with a lesion, "
        f"up to {most} of {frequency.scans}",
    )
    ticks = ["0", str(most)] if most % 2 else ["0", str(most // 2), str(most)]
    scale = legend("number of scans with a lesion", ticks)
    caption = (
        f"Lesions of {_scans(frequency.scans)} on the MNI152 template; at most {most} overlap "
        f"({100 * most / frequency.scans:.0f} %). {convention_note(convention)} "
        "Numbers are z in MNI152, mm."
    )
    sampled = frequency.scans + frequency.left_out
    if frequency.group is not None and frequency.group > sampled:
        caption += f" A sample, spread evenly over the {_scans(frequency.group)} that are finished."
    if frequency.left_out:
        caption += f" {_scans(frequency.left_out)} without alignment left out."
    return section(heading, figure(joined([scale, picture]), caption))


def _table(results: Sequence[Result], traits: GroupTraits | None, *, rated: bool) -> Markup:
    columns = shown_columns(results, traits)
    titles = [
        ("Scan", "text"),
        ("State", "text"),
        ("Lesions", "number"),
        ("Total, mL", "number"),
        ("Left, mL", "number"),
        ("Right, mL", "number"),
        ("Largest, mL", "number"),
        ("Mean probability", "number"),
        ("Aligned", "text"),
        ("Time, s", "number"),
    ]
    if rated:
        titles.insert(2, ("Rating", "text"))
    titles += [(column.name, "number" if column.numeric else "text") for column in columns]
    body = [_row(r, columns, rated=rated) for r in results[:MOST_ROWS]]
    caption = "Press a heading to sort. Volumes are measured on each scan's own grid."
    if any(r.done and r.scan.aligned is None for r in results):
        caption += (
            " Aligned is n/a for scans that lie on the MNI152 grid already, or if no alignment "
            "was wanted."
        )
    if any(r.scan.corrected for r in results):
        caption += (
            " Of corrected scans the lesions are the reader's, on their own pages too; dotted "
            "lines there show what the model had found."
        )
    if columns:
        caption += " The last columns are those of participants.tsv."
    if len(results) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(results)} scans are shown."
    return section("All scans", sortable(titles, body, caption, class_="names many"))


def _row(result: Result, columns: Sequence[Column], *, rated: bool) -> Markup:
    scan = result.scan

    volumes = (
        result.total,
        result.left,
        result.total - result.left,
        max(result.volumes, default=0),
    )
    state = _STATES[scan.state] + (", corrected" if scan.corrected else "")
    aligned = {None: "n/a", True: "yes", False: "failed"}[scan.aligned]
    count = len(result.volumes)
    return element(
        "tr",
        element("th", _link(scan), scope="row"),
        element("td", state, class_=scan.state),
        element("td", "", data_rated=scan.name) if rated else None,
        number_cell(count if result.done else None, str(count)),
        *(number_cell(v if result.done else None, ml(v)) for v in volumes),
        number_cell(
            result.probability,
            "" if result.probability is None else f"{result.probability:.2f}",
        ),
        element("td", aligned if result.done else "n/a"),
        number_cell(scan.seconds, "" if scan.seconds is None else f"{scan.seconds:.1f}"),
        *(column.cell(scan.name) for column in columns),
    )


def _link(scan: GroupScan) -> Markup:
    """The scan's name, linked to its page if that lies below this one."""
    address = safe_address(scan.page)
    return element("span", scan.name) if address is None else element("a", scan.name, href=address)


def _facts(pairs: Mapping[str, str]) -> Markup | None:
    if not pairs:
        return None
    return section("How this was made", facts([(k, str(v)) for k, v in pairs.items()]))


def _scans(count: int) -> str:
    return counted(count, "scan")
