"""Groups of a study beside each other: sites, diagnoses or whatever ``participants.tsv`` tells."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .charts import bars
from .content import GroupScan, GroupTraits
from .page import Markup, element, figure, paragraph, section, table
from .scan_page import ml

#: Upper bounds of the histogram's bins in mL; a first bin holds the scans without lesion.
BINS_ML = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
#: Columns that the table of all scans takes, and groups that get a colour of their own.
MOST_COLUMNS, MOST_GROUPS = 8, 8
# What is compared first, if it is there.
_FIRST = ("site", "site_id", "center", "centre", "scanner", "group", "diagnosis", "dx", "sex")
_NOTHING = {"", "n/a", "nan", "na"}


@dataclass(frozen=True)
class Result:
    """One scan with what its lesions add up to; volumes in mL.

    ``notes`` make its result doubtful; ``warned`` is what else was odd about it.
    """

    scan: GroupScan
    volumes: tuple[float, ...]
    left: float
    probability: float | None
    notes: tuple[str, ...]
    warned: tuple[str, ...]

    @property
    def done(self) -> bool:
        return self.scan.state == "done"

    @property
    def total(self) -> float:
        return sum(self.volumes)


@dataclass(frozen=True)
class Column:
    """One column of ``participants.tsv``.

    ``values`` by scan. ``groups`` are its values in the order of their colours, empty if it is not
    one to compare by.
    """

    name: str
    values: Mapping[str, str]
    groups: tuple[str, ...]
    numeric: bool

    def cell(self, scan: str) -> Markup:
        """The value of a scan in the table, with the colour of its group."""
        value = self.values.get(scan, "n/a")
        if self.numeric:
            known = value.lower() not in _NOTHING
            return element("td", value, class_="num", data_key=value if known else "")
        dot = self.dot(value) if self.groups and value.lower() not in _NOTHING else None
        return element("td", dot, value)

    def dot(self, value: str) -> Markup:
        """The mark of a group."""
        return element("span", class_=f"dot c{self.groups.index(value)}")


def shown_columns(results: Sequence[Result], traits: GroupTraits | None) -> list[Column]:
    """The first columns of ``traits`` that say anything about these scans."""
    if traits is None:
        return []
    columns = []
    for name in traits.columns:
        values = {
            r.scan.name: traits.of_scan[r.scan.name].get(name, "n/a") or "n/a"
            for r in results
            if r.scan.name in traits.of_scan
        }
        known = [v for v in values.values() if v.lower() not in _NOTHING]
        if not known:
            continue
        numeric = all(map(_is_number, known))
        groups = sorted(set(known), key=lambda v: (float(v) if numeric else 0.0, v))
        # A number with few values is a code: 1 and 2 for two sites.
        alike = 2 <= len(groups) <= MOST_GROUPS and len(groups) < len(known)
        compared = alike and (not numeric or len(groups) <= 5)
        columns.append(
            Column(name, values, tuple(groups) if compared else (), numeric and not compared)
        )
    return columns[:MOST_COLUMNS]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def by_group(results: Sequence[Result], traits: GroupTraits | None) -> Markup | None:
    """Volumes by group, for every column that has groups; one is shown, the others are chosen."""
    if traits is None:
        return None
    notes = [paragraph(note, class_="lead") for note in traits.notes]
    columns = [c for c in shown_columns(results, traits) if c.groups]
    columns.sort(key=lambda c: _FIRST.index(c.name.lower()) if c.name.lower() in _FIRST else 99)
    if not columns:
        return section("Groups", *notes) if notes else None
    choice = None
    if len(columns) > 1:
        options = [element("option", column.name, value=column.name) for column in columns]
        select = element("select", *options, id="by-column")
        choice = element("div", element("label", "Compare by ", select), class_="controls")
    parts = [
        element("div", *_compared(column, results), data_by=column.name, hidden=n > 0)
        for n, column in enumerate(columns)
    ]
    return section("Groups", *notes, choice, *parts)


def _compared(column: Column, results: Sequence[Result]) -> tuple[Markup, Markup]:
    """The table of one column's groups, and their volumes as a chart."""
    done = [r for r in results if r.done]
    rows, totals = [], []
    for group in column.groups:
        own = [r for r in done if column.values.get(r.scan.name) == group]
        found = [r.total for r in own if r.volumes]
        failed = sum(
            r.scan.state == "failed" and column.values.get(r.scan.name) == group for r in results
        )
        quartiles = np.percentile(found, (25, 75)) if found else None
        rows.append(
            [
                Markup(element("th", column.dot(group), group, scope="row")),
                str(len(own)),
                str(failed),
                str(len(found)),
                ml(statistics.median(found)) if found else "n/a",
                "n/a" if quartiles is None else f"{ml(quartiles[0])} to {ml(quartiles[1])}",
                ml(max(found)) if found else "n/a",
            ]
        )
        totals.append([r.total for r in own])
    titles = [
        (column.name, "text"),
        ("Finished", "number"),
        ("Failed", "number"),
        ("With lesions", "number"),
        ("Median, mL", "number"),
        ("Middle half, mL", "number"),
        ("Largest, mL", "number"),
    ]
    caption = "Scans by group. Medians and quartiles are of the scans with lesions."
    chart = figure(
        volume_chart(totals, column.groups),
        f"Finished scans by lesion volume in mL, coloured by {column.name}.",
    )
    return table(titles, rows, caption, class_="names"), chart


def volume_chart(totals_ml: Sequence[Sequence[float]], names: Sequence[str] = ()) -> Markup:
    """Scans by volume, one bar a bin; the groups of ``totals_ml`` lie on each other."""
    bins = ["none", f"< {BINS_ML[0]:g}"]
    bins += [f"{a:g}–{b:g}" for a, b in itertools.pairwise(BINS_ML)]
    bins.append(f"≥ {BINS_ML[-1]:g}")
    stacks = [volume_histogram(group) for group in totals_ml]
    told = "Number of scans by lesion volume in mL."
    return bars(bins, stacks, told, coloured=bool(names))


def volume_histogram(totals_ml: Sequence[float]) -> list[int]:
    """Scans without lesion, then those in each bin of ``BINS_ML`` (lower bound included)."""
    counts = [0] * (len(BINS_ML) + 2)
    for total in totals_ml:
        place = 0 if total <= 0 else 1 + int(np.searchsorted(BINS_ML, total, side="right"))
        counts[place] += 1
    return counts
