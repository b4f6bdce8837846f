"""``BENCH.md`` and its plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.lesions import write_sidecar
from StrokeLesionSegLib.lesions.tables import write_text

from ..figures.page import COLOURS, pyplot
from .plan import NAMES
from .summary import (
    BANDS,
    KINDS,
    Figure,
    Row,
    by_procedure,
    correlation,
    dice,
    ece,
    found_by_size,
    free,
    groups,
    lesioned,
    mean_of,
    paired,
    reliability,
    resampled,
    robot_figures,
    scorer_means,
    summarise,
    targets,
)

_CLICKS = (0, 1, 3, 5, 10)


def cell(figure: Figure, digits: int = 2) -> str:
    """``.53 [.41, .64] (12)``: value, 95 % interval, number."""
    if figure["value"] is None:
        return "n/a"
    text = f"{figure['value']:.{digits}f}"
    if figure["low"] is not None:
        text += f" [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"
    return f"{text} ({figure['n']})"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def band_name(band: tuple[float, float]) -> str:
    a, b = band
    return f"{a:g} to {b:g} mL" if np.isfinite(b) else f"above {a:g} mL"


def write_report(
    path: Path,
    rows: list[Row],
    *,
    facts: dict[str, Any],
    others: dict[str, list[Row]],
    problems: Sequence[str] = (),
    pictures: Path | None = None,
    failures: Callable[[Path], Path | None] | None = None,
) -> list[Path]:
    """Write ``path`` (Markdown), ``path`` with .json, and the plots; returns all files.

    ``rows``: of the main model and view. ``facts``: what stands at the top, in order. ``others``:
    rows of other views and models by name, compared with ``rows`` scan by scan. ``pictures``: the
    plots' folder, default that of ``path``. ``failures`` draws the worst scans into a file.
    """
    pictures = pictures or path.parent
    pictures.mkdir(parents=True, exist_ok=True)
    plots = [
        plot_reliability(rows, pictures / "bench_reliability.png"),
        plot_expected(rows, pictures / "bench_expected_dice.png"),
        plot_volumes(rows, pictures / "bench_dice_by_volume.png"),
    ]
    if robot_figures(rows):
        plots.append(plot_clicks(rows, pictures / "bench_clicks.png"))
    if failures is not None and (drawn := failures(pictures / "bench_failures.png")):
        plots.append(drawn)
    parts = [
        "# Test bench",
        "Simulated strokes in scans of real people; none of these people and lesion masks was used "
        "in training. No figure here comes from real stroke patients. Cells: mean [95 % bootstrap "
        "interval over scans] (number). The scans come from few people, so the intervals show "
        "how much lesions vary, rather than how much people vary.",
        table(("", ""), [(k, str(v)) for k, v in facts.items()]),
        *_targets(rows),
        *_dice(rows),
        *_free(rows),
        *_groups(rows),
        *_uncertainty(rows),
        *_robot(rows),
        *_others(rows, others),
        *_scorers(rows),
        "## Plots",
        "\n".join(f"![{p.stem}]({_relative(p, path)})" for p in plots),
    ]
    if problems:
        parts += ["## Scans that failed", "\n".join(f"- {p}" for p in problems)]
    write_text(path, "\n\n".join(parts) + "\n")
    summary = {"facts": facts, **summarise(rows)}
    write_sidecar(path.with_suffix(".json"), summary)
    return [path, path.with_suffix(".json"), *plots]


def _relative(picture: Path, page: Path) -> str:
    import os

    return Path(os.path.relpath(picture, page.parent)).as_posix()


def _targets(rows: list[Row]) -> list[str]:
    split = {name: targets(chosen) for name, chosen in by_procedure(rows).items()}
    alone = {n: {what: f for what, f, _, _ in t} for n, t in split.items()}
    lines = []
    for what, figure, target, reached in split["all"]:
        digits = 3 if what.startswith("ECE") else 2
        lines.append([
            what, target, cell(figure, digits),
            {True: "yes", False: "no", None: "n/a"}[reached],
            *(cell(alone[n][what], digits) if what in alone[n] else "n/a"
              for n in ("first", "second")),
        ])  # fmt: skip
    head = ("", "target", "all scans", "reached", "the simulator", "independent simulator")
    return [
        "## Targets",
        '"The simulator" is `stroketrain simulate`, which draws the training data of 2D networks, '
        "here with other people and masks; the independent simulator shares no code with it. The "
        "volumetric network was trained on strokes of neither. Unmodified scans of real people "
        "count in every column.",
        table(head, lines),
    ]


def _dice(rows: list[Row]) -> list[str]:
    parts = ["## Volume Dice by lesion volume and kind"]
    for name, chosen in by_procedure(rows).items():
        lines = []
        for kind in (*KINDS, "all"):
            mine = [r for r in lesioned(chosen) if kind in (r["kind"], "all")]
            cells = [cell(dice([r for r in mine if a <= r["volume_ml"] < b])) for a, b in BANDS]
            lines.append([kind, *cells, cell(dice([r for r in mine if r["volume_ml"] > 1]))])
        head = ("kind", *(band_name(b) for b in BANDS), "above 1 mL")
        parts += [f"{_title(name)}:", table(head, lines)]
    lines = [
        [_title(name), *(cell(f) for _, f in found_by_size(chosen))]
        for name, chosen in by_procedure(rows).items()
    ]
    head = ("single lesions found", *(band_name(b) for b, _ in found_by_size(rows)))
    return [*parts, table(head, lines)]


def _title(procedure: str) -> str:
    return NAMES.get(procedure, "all scans").capitalize()


def _free(rows: list[Row]) -> list[str]:
    well = free(rows)
    chosen = {
        "all": well,
        "unmodified scans of real people": [r for r in well if r["procedure"] == "none"],
        "the simulator (atrophy, hypointensities, ...)": [
            r for r in well if r["procedure"] == "first"
        ],
        "independent simulator (halos, plaques, ...)": [
            r for r in well if r["procedure"] == "second"
        ],
        "multiple sclerosis": [r for r in well if r["multiple_sclerosis"]],
        "without multiple sclerosis": [r for r in well if not r["multiple_sclerosis"]],
        "thick slices": [r for r in well if r["thick"]],
    }
    lines = [
        [
            name,
            cell(mean_of([float(r["predicted_ml"] == 0) for r in some])),
            cell(mean_of([float(r["largest_false_ml"] <= 0.5) for r in some])),
            cell(mean_of([r["predicted_ml"] for r in some])),
        ]
        for name, some in chosen.items()
    ]
    head = ("scans without lesion", "exactly empty", "no false lesion above .5 mL", "marked, mL")
    return ["## Lesion-free scans", table(head, lines)]


def _groups(rows: list[Row]) -> list[str]:
    lines = []
    for name, some in groups(rows).items():
        sick, well = lesioned(some), free(some)
        lines.append([
            name, cell(dice(lesioned(some, 1.0))),
            cell(mean_of([r["isles2022"]["lesion_f1"] for r in sick])),
            cell(mean_of([float(r["largest_false_ml"] <= 0.5) for r in sick])),
            cell(mean_of([float(r["predicted_ml"] == 0) for r in well])),
        ])  # fmt: skip
    head = ("", "Dice above 1 mL", "lesion-wise F1", "lesioned: no false lesion above .5 mL",
            "lesion-free: exactly empty")  # fmt: skip
    return ["## By kind of scan", table(head, lines)]


def _uncertainty(rows: list[Row]) -> list[str]:
    lines = []
    for name, some in by_procedure(rows).items():
        sick = lesioned(some)
        lines.append([
            _title(name), cell(resampled(some, ece, 500), 4),
            cell(resampled(some, lambda r: ece(r, 1), 500), 3),
            cell(resampled(sick, correlation)), cell(resampled(some, correlation)),
            cell(mean_of([abs(r["expected_dice"] - r["dice"]) for r in sick])),
            cell(resampled(sick, lambda r: correlation(r, "agreement"))),
        ])  # fmt: skip
    head = ("", "ECE inside the brain", "ECE of voxels at .05 or more",
            "correlation of expected and reached Dice, lesioned", "the same, all scans",
            "mean absolute error, lesioned", "correlation of `agreement` with Dice")  # fmt: skip
    return [
        "## Uncertainty",
        "The first ECE is small for every model that marks little, because the probability of most "
        "voxels is near 0; the second leaves those out. The expected Dice is "
        "`lesions.expected_dice` of map and mask; `agreement` is the soft Dice between the two.",
        table(head, lines),
    ]


def _robot(rows: list[Row]) -> list[str]:
    above = lesioned(rows, 1.0)
    if not robot_figures(above):
        return []
    lines = []
    for name, some in (
        ("all", above),
        *((k, [r for r in above if r["kind"] == k]) for k in KINDS),
        *((NAMES[p], [r for r in above if r["procedure"] == p])
          for p in ("first", "second")),
    ):  # fmt: skip
        for noise, series in robot_figures(some).items():
            lines.append(
                [name, noise, *(cell(series[n]) if n < len(series) else "" for n in _CLICKS)]
            )
    head = ("lesions above 1 mL", "clicks miss by (SD)", *(counted(n, "click") for n in _CLICKS))
    return [
        "## Robot user",
        "The robot clicks where the largest error is thickest, in the session that the effects "
        "use. Dice after n clicks; 0 clicks is the automatic mask.",
        table(head, lines),
    ]


def _others(rows: list[Row], others: dict[str, list[Row]]) -> list[str]:
    lines = []
    for name, more in others.items():
        sick = paired(lesioned(rows), lesioned(more))
        f1 = paired(
            [{"name": r["name"], "f1": r["isles2022"]["lesion_f1"]} for r in lesioned(rows)],
            [{"name": r["name"], "f1": r["isles2022"]["lesion_f1"]} for r in lesioned(more)],
            "f1",
        )
        quiet = paired(
            [{"name": r["name"], "empty": float(r["predicted_ml"] == 0)} for r in free(rows)],
            [{"name": r["name"], "empty": float(r["predicted_ml"] == 0)} for r in free(more)],
            "empty",
        )
        p = "n/a" if sick["p"] is None else f"{sick['p']:.3g}"
        lines.append([
            name, cell(sick["first"]), cell(sick["second"]), cell(sick["difference"], 3), p,
            cell(f1["difference"], 3), cell(quiet["first"]), cell(quiet["second"]),
        ])  # fmt: skip
    if not lines:
        return []
    head = ("instead", "Dice, lesioned: main", "Dice: instead", "difference", "Wilcoxon p",
            "difference of F1", "exactly empty: main", "exactly empty: instead")  # fmt: skip
    return ["## Other views and models", "Pairs of results on the same scans.", table(head, lines)]


def _scorers(rows: list[Row]) -> list[str]:
    parts = ["## The three scorers, lesioned scans"]
    split = {n: scorer_means(lesioned(chosen)) for n, chosen in by_procedure(rows).items()}
    lines = []
    for scorer, metrics in split["all"].items():
        for metric in metrics:
            digits = 0 if "voxels" in metric else 3
            lines.append(
                [f"`{scorer}`", metric, *(cell(split[n][scorer][metric], digits) for n in split)]
            )
    head = ("scorer", "metric", *(_title(n) for n in split))
    return [*parts, table(head, lines)]


# ---------------------------------------------------------------------------------- plots


def _finish(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
    return path


def plot_reliability(rows: list[Row], path: Path) -> Path:
    """Share of lesion over mean probability, a curve for each procedure; area is volume."""
    figure, axis = pyplot().subplots(figsize=(3.6, 3.4))
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for colour, name in zip(COLOURS, ("first", "second"), strict=False):
        curve = np.array(reliability(by_procedure(rows)[name]))
        if len(curve):
            axis.plot(curve[:, 0], curve[:, 1], color=colour, marker="o", markersize=3,
                      label=NAMES[name])  # fmt: skip
    axis.set(xlabel="probability", ylabel="share of lesion", xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    return _finish(figure, path)


def plot_expected(rows: list[Row], path: Path) -> Path:
    """Reached over expected Dice, a dot a scan."""
    figure, axis = pyplot().subplots(figsize=(3.6, 3.4))
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for colour, kind in zip(COLOURS, (*KINDS, "healthy"), strict=False):
        some = [r for r in rows if r["kind"] == kind]
        axis.scatter([r["expected_dice"] for r in some], [r["dice"] for r in some], s=14,
                     color=colour, label="lesion-free" if kind == "healthy" else kind)  # fmt: skip
    axis.set(xlabel="expected Dice", ylabel="Dice", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(frameon=False, fontsize=8)
    return _finish(figure, path)


def plot_volumes(rows: list[Row], path: Path) -> Path:
    """Dice over lesion volume, a dot a scan; filled: the simulator, open: the independent one."""
    figure, axis = pyplot().subplots(figsize=(4.6, 3.2))
    for colour, kind in zip(COLOURS, KINDS, strict=False):
        for procedure, face in (("first", colour), ("second", "none")):
            some = [r for r in lesioned(rows) if r["kind"] == kind and r["procedure"] == procedure]
            x, y = [r["volume_ml"] for r in some], [r["dice"] for r in some]
            label = f"{kind}, {procedure}"
            axis.scatter(x, y, s=16, edgecolors=colour, facecolors=face, label=label)
    axis.set(xscale="log", xlabel="lesion volume (mL)", ylabel="Dice", ylim=(-0.02, 1))
    axis.legend(frameon=False, fontsize=7, ncol=2)
    return _finish(figure, path)


def plot_clicks(rows: list[Row], path: Path) -> Path:
    """Mean Dice after each click with its interval, exact and missed clicks."""
    figure, axis = pyplot().subplots(figsize=(3.8, 3.2))
    for colour, (noise, series) in zip(
        COLOURS, robot_figures(lesioned(rows, 1.0)).items(), strict=False
    ):
        x = np.arange(len(series))
        axis.plot(x, [f["value"] for f in series], color=colour, marker="o", markersize=3,
                  label=f"clicks miss by {noise}")  # fmt: skip
        low = [np.nan if f["low"] is None else f["low"] for f in series]
        high = [np.nan if f["high"] is None else f["high"] for f in series]
        axis.fill_between(x, low, high, color=colour, alpha=0.15)
    axis.set(xlabel="clicks", ylabel="Dice, lesions above 1 mL", ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return _finish(figure, path)
