"""The two pictures of the benchmark; small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS, PEER, GREY = "#0b6e99", "#b7791f", "#555555"
Row = dict[str, Any]


def plot_side(rows: dict[str, Row], path: Path) -> None:
    """Seconds of the network, one bar a case, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = sorted(rows.values(), key=lambda row: row["network_s"])
    shown = [row for row in shown if row["peer"] or "full" not in row["case"]]
    labels = [f"{row['title'].replace('*', '')}, {row['precision']}" for row in shown]
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(shown) + 0.9))
    colours = [PEER if row["peer"] else OURS for row in shown]
    values = [row["network_s"] for row in shown]
    axes.barh(range(len(shown)), values, color=colours, height=0.7)
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    # Room for the figures beside the longest bar.
    axes.set_xlim(min(values) / 2, max(values) * 2.5)
    for place, value in enumerate(values):
        axes.text(value * 1.06, place, f"{value:.3g} s", va="center", fontsize=8)
    axes.set_xlabel(
        f"seconds of the network, one 1 mm volume, {shown[0]['threads']} CPU cores", fontsize=8
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
    save(figure, path)


# Part of growth: horizontal axis, its name, logarithmic or not, title.
PANELS = (
    ("slices", "slices", "slices in the brain box", False, "network"),
    ("voxels", "voxels", "million voxels of the scan", False, "file to file, no alignment"),
    ("lesions", "lesions", "lesions", True, "threshold, components, measurements"),
    ("scans", "scans", "scans in a batch", False, "batch, start-up included"),
    ("workers", "workers", "workers", False, "batch of six scans"),
    ("editing", "voxels", "million voxels of the scan", False, "editing, medians"),
)
EDITING = {"slice_ms": "slice on view", "threshold_ms": "threshold", "click_ms": "click"}


def plot_growth(growth: dict[str, list[Row]], path: Path) -> None:
    """Seconds (left axis) and memory (right axis, where known) by what grows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [panel for panel in PANELS if panel[0] in growth]
    figure, all_axes = plt.subplots(1, len(panels), figsize=(2.7 * len(panels), 2.5), squeeze=False)
    for axes, (name, key, label, logarithmic, title) in zip(all_axes[0], panels, strict=True):
        rows = growth[name]
        scale = 1e-6 if key == "voxels" else 1
        x = [row[key] * scale for row in rows]
        if name == "editing":
            for (what, told), style in zip(EDITING.items(), ("o-", "s--", "^:"), strict=True):
                axes.plot(x, [row[what] for row in rows], style, markersize=3, label=told)
            axes.legend(fontsize=7)
        else:
            axes.plot(x, [row["seconds"] for row in rows], "o-", color=OURS, markersize=3)
        axes.set_ylim(bottom=0)
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlabel(label, fontsize=8)
        axes.set_ylabel("ms" if name == "editing" else "s", fontsize=8, color=OURS)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top"]].set_visible(False)
        if all("peak_mb" in row for row in rows):
            other = axes.twinx()
            other.plot(x, [row["peak_mb"] for row in rows], "s:", color=GREY, markersize=3)
            other.set_ylim(bottom=0)
            other.set_ylabel("peak MB", fontsize=8, color=GREY)
            other.tick_params(labelsize=7)
            other.spines[["top"]].set_visible(False)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path.name}")
