"""The page of masks that were scored against references."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..brief import counted
from .charts import bars, difference_axis, points, volume_axis
from .page import (
    Inline,
    Markup,
    document,
    element,
    facts,
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

if TYPE_CHECKING:
    from ..lesions.scorers import CaseScore, FolderScores

#: Cases beyond this are in the table beside the page only; browsers would be slow.
MOST_CASES = 5_000
# Cases that are named in a sentence.
_NAMED = 12
_TITLES = {
    "dice": "Dice",
    "lesion_f1": "Lesion-wise F1",
    "lesion_count_difference": "Difference of lesion counts",
    "volume_difference_voxels": "Volume difference, voxels",
    "volume_difference_ml": "Volume difference, mL",
    "pr_auc": "Area under precision-recall",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "hd95_mm": "95th percentile of Hausdorff distance, mm",
    "assd_mm": "Average surface distance, mm",
}
# Decimals of a case's value where they are not three; means of these have two.
_DECIMALS = {
    "lesion_count_difference": 0,
    "volume_difference_voxels": 0,
    "volume_difference_ml": 2,
    "hd95_mm": 2,
    "assd_mm": 2,
}
# In the table of cases, where there is less room.
_SHORT = {
    "lesion_count_difference": "Count diff.",
    "volume_difference_voxels": "Volume diff., voxels",
    "volume_difference_ml": "Volume diff., mL",
    "pr_auc": "PR AUC",
    "sensitivity": "Sens.",
    "precision": "Prec.",
    "hd95_mm": "HD95, mm",
    "assd_mm": "ASSD, mm",
}


@dataclass(frozen=True)
class ScorePageFacts:
    """What the page says besides the scores.

    Attributes
    ----------
    pages: reports of scans by case, relative to the page; ``..`` only at their start.
    files: tables beside the page, by relative address, with what each is.
    facts: short titles and text for the end of the page.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import ScorePageFacts
    >>> ScorePageFacts().pages
    {}
    """

    pages: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def write_score_report(
    path: str | os.PathLike[str], result: FolderScores, more: ScorePageFacts | None = None
) -> None:
    """Write the page of ``score_folders``, complete or not at all.

    Raises ``InputError`` if it cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.lesions import score_case
    >>> from StrokeLesionSegLib.lesions.scorers import CaseScore, FolderScores, summarise_scores
    >>> from StrokeLesionSegLib.report import write_score_report
    >>> mask = np.ones((4, 4, 4), np.uint8)
    >>> scores = score_case(mask, mask, np.eye(4), "atlas2022")
    >>> case = CaseScore("sub-01", Path("a.nii.gz"), Path("b.nii.gz"), scores)
    >>> summary = summarise_scores([scores], "atlas2022")
    >>> write_score_report("scores.html", FolderScores("atlas2022", (case,), (), summary))
    >>> "One case" in Path("scores.html").read_text(encoding="utf-8")
    True
    """
    more = more or ScorePageFacts()
    created = timestamp()
    title = f"Scores of {_cases(len(result.cases)).lower()} by {result.scorer}"
    body = [
        banner("Lesion masks against references", title, created, ""),
        element(
            "main",
            _summary(result),
            _problems(result),
            _look_first(result, more.pages),
            _measures(result),
            _volumes(result),
            _table(result, more.pages),
            tables_section(more.files),
            _how(result, more.facts),
        ),
        footer(),
    ]
    page = document(title, body, scripts=[Inline(None, resource_text("group.js"))])
    write_page(path, page, overwrite=True)


def _summary(result: FolderScores) -> Markup:
    metrics, cases = result.summary["metrics"], result.cases
    dice, f1 = metrics["dice"], metrics["lesion_f1"]
    free = result.summary["lesion_free"]
    sentence = f"{_cases(len(cases))} scored"
    if result.problems:
        sentence += f", {len(result.problems)} could not be"
    if cases:
        sentence += f". Mean Dice {_two(dice['mean'])}{_interval(dice)}."
    else:
        sentence += "."
    if free["n"]:
        scans = f"{counted(free['n'], 'lesion-free scan')} {'was' if free['n'] == 1 else 'were'}"
        sentence += f" {free['exactly_empty']} of {scans} left empty."
    volumes = result.summary["volumes"]
    tiles = [
        tile("Cases", str(len(cases))),
        tile("Not scored", str(len(result.problems))),
        tile("Dice, mean", _two(dice["mean"])),
        tile("Lesion-wise F1, mean", _two(f1["mean"])),
        tile("Volume bias", _signed(volumes["bias_ml"]), "mL" if cases else ""),
        tile("Correlation of volumes", _two(volumes["correlation"])),
    ]
    return section(
        "Summary",
        paragraph(sentence, class_="verdict"),
        element("dl", *tiles, class_="tiles"),
        class_="summary",
    )


def _problems(result: FolderScores) -> Markup | None:
    if not result.problems:
        return None
    rows = [
        [without_paths(str(p.where)), without_paths(f"{p.cause}. {p.remedy}.")]
        for p in result.problems[:MOST_CASES]
    ]
    caption = "They are in no mean."
    columns = [("File", "text"), ("Why", "text")]
    return section("Could not be scored", table(columns, rows, caption, class_="names notes"))


def _look_first(result: FolderScores, pages: Mapping[str, str]) -> Markup | None:
    """The cases in which nothing agrees: missed altogether, elsewhere, false on healthy scans."""
    kinds = {
        "Lesion in the reference, none in the mask": lambda s: s["n_truth"] and not s["n_pred"],
        "Lesions in both that nowhere overlap": lambda s: (
            s["n_truth"] and s["n_pred"] and s["dice"] == 0
        ),
        "No lesion in the reference, but in the mask": lambda s: s["n_pred"] and not s["n_truth"],
    }
    rows: list[list[object]] = []
    for kind, holds in kinds.items():
        found = [case for case in result.cases if holds(case.scores)]
        if found:
            names: list[object] = [f"{_cases(len(found))}: "]
            for n, case in enumerate(found[:_NAMED]):
                names += [", " if n else None, _link(case.case, pages)]
            if len(found) > _NAMED:
                names.append(f" and {len(found) - _NAMED} more")
            rows.append([kind, element("td", *names)])
    if not rows:
        return None
    columns = [("What", "text"), ("Where", "text")]
    caption = "Their Dice is 0; the table below has them all."
    return section("Look at these first", table(columns, rows, caption, class_="names notes"))


def _measures(result: FolderScores) -> Markup | None:
    if not result.cases:
        return None
    rows = []
    for name, values in result.summary["metrics"].items():
        better = "higher" if values["higher_is_better"] else "lower"
        low, high = values["ci95_low"], values["ci95_high"]
        more = 2 if name in _DECIMALS else 3
        mean, median, low, high = (
            _number(values[key], more) for key in ("mean", "median", "ci95_low", "ci95_high")
        )
        interval = low if low == "n/a" else f"{low} to {high}"
        row = [_TITLES.get(name, name), str(values["n"]), mean, interval, median, better]
        rows.append(row)
    columns = [
        ("Measure", "text"),
        ("Cases", "number"),
        ("Mean", "number"),
        ("95 % interval of the mean", "number"),
        ("Median", "number"),
        ("Better", "text"),
    ]
    caption = (
        "Intervals are bootstrapped over cases. A measure that is not defined for a case (no "
        "surface, no soft map) leaves it out."
    )
    dice = [case.scores["dice"] for case in result.cases]
    labels = ["0", "< 0.1", *(f"{n / 10:.1f}–{(n + 1) / 10:g}" for n in range(1, 10))]
    counts = [0] * len(labels)
    for value in dice:
        counts[0 if value == 0 else 1 + min(int(value * 10), 9)] += 1
    chart = figure(bars(labels, [counts], "Number of cases by Dice."), "Number of cases by Dice.")
    return section("Measures", table(columns, rows, caption), chart)


def _volumes(result: FolderScores) -> Markup | None:
    if not result.cases:
        return None
    pairs = [(c.scores["truth_volume_ml"], c.scores["pred_volume_ml"], c) for c in result.cases]
    most = max(max(truth, pred) for truth, pred, _ in pairs)
    shown = pairs[:MOST_CASES]
    across, up = volume_axis("Reference, mL", most), volume_axis("Mask, mL", most)
    named = [(t, p, f"{c.case}: {ml(t)} mL, mask {ml(p)} mL") for t, p, c in shown]
    agreement = result.summary["volumes"]
    correlation = agreement["correlation"]
    told = "" if correlation is None else f" Pearson's correlation {correlation:.3f}."
    scatter = figure(
        points(
            named,
            across,
            up,
            f"Lesion volume of the mask over that of the reference, a point for each case.{told}",
            diagonal=True,
        ),
        f"Volumes of mask and reference; on the dashed line they are the same.{told}",
    )
    bias, low, high = (agreement[key] for key in ("bias_ml", "limit_low_ml", "limit_high_ml"))
    differences = [pred - truth for truth, pred, _ in shown]
    levels = [(bias, f"bias {_signed(bias)}")]
    if low is not None and high - low > 1e-6:
        levels += [(low, _signed(low)), (high, _signed(high))]
    limits = "" if low is None else f" (limits of agreement {_signed(low)} to {_signed(high)} mL)"
    difference = figure(
        points(
            [
                ((t + p) / 2, p - t, f"{c.case}: {_signed(p - t)} mL at {ml((t + p) / 2)} mL")
                for t, p, c in shown
            ],
            volume_axis("Mean of mask and reference, mL", most),
            difference_axis("Mask minus reference, mL", [*differences, *(v for v, _ in levels)]),
            f"Difference of the volumes over their mean: bias {_signed(bias)} mL{limits}.",
            levels=levels,
        ),
        f"Difference over mean (Bland and Altman): bias {_signed(bias)} mL{limits}. The limits "
        "are 1.96 standard deviations from the bias.",
    )
    note = "Axes of volumes start at 0 and are logarithmic above 0.1 mL."
    if len(pairs) > len(shown):
        note += f" The first {len(shown)} of {_cases(len(pairs)).lower()} are drawn."
    return section(
        "Volumes",
        paragraph(note, class_="lead"),
        element("div", scatter, difference, class_="pair"),
    )


def _table(result: FolderScores, pages: Mapping[str, str]) -> Markup | None:
    if not result.cases:
        return None
    names = list(result.summary["metrics"])
    columns = [
        ("Case", "text"),
        *((_SHORT.get(name, _TITLES.get(name, name)), "number") for name in names),
        ("Reference, mL", "number"),
        ("Mask, mL", "number"),
        ("Found", "number"),
        ("Missed", "number"),
        ("False", "number"),
    ]
    rows = [_row(case, names, pages) for case in result.cases[:MOST_CASES]]
    caption = (
        "Press a heading to sort. Found and missed are lesions of the reference, false of the mask."
    )
    if len(result.cases) > len(rows):
        caption += f" The first {len(rows)} of {_cases(len(result.cases)).lower()} are shown."
    return section("All cases", sortable(columns, rows, caption, class_="names many short"))


def _row(case: CaseScore, names: Sequence[str], pages: Mapping[str, str]) -> Markup:
    scores = case.scores

    def known(value: float) -> float | None:
        return value if np.isfinite(value) else None

    counts = ("lesions_found", "lesions_missed", "lesions_false")
    volumes = ("truth_volume_ml", "pred_volume_ml")
    return element(
        "tr",
        element("th", _link(case.case, pages), scope="row"),
        *(
            number_cell(known(scores[name]), _number(scores[name], _DECIMALS.get(name, 3)))
            for name in names
        ),
        *(number_cell(scores[name], ml(scores[name])) for name in volumes),
        *(number_cell(scores[name], f"{scores[name]:.0f}") for name in counts),
    )


def _how(result: FolderScores, told: Mapping[str, str]) -> Markup:
    notes = [paragraph(without_paths(note)) for note in result.notes]
    pairs = [("Scorer", result.scorer), *((key, str(value)) for key, value in told.items())]
    return section("How this was made", *notes, facts(pairs))


def _link(case: str, pages: Mapping[str, str]) -> Markup:
    """The case, linked to the report of its scan if there is one."""
    address = safe_address(pages.get(case), above=9)
    return element("span", case) if address is None else element("a", case, href=address)


def _cases(count: int) -> str:
    return {0: "No case", 1: "One case"}.get(count, f"{count} cases")


def _two(value: float | None) -> str:
    return _number(value, 2)


def _number(value: float | None, decimals: int) -> str:
    if value is None or not np.isfinite(value):
        return "n/a"
    return f"{value:.{decimals}f}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "n/a" if value is None else signed(value)


def _interval(values: Mapping[str, Any]) -> str:
    low, high = values["ci95_low"], values["ci95_high"]
    return "" if low is None else f" (95 % interval {low:.2f} to {high:.2f})"
