"""The picture of the benchmark; a small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS, PEER = "#0b6e99", "#b7791f"
Row = dict[str, Any]


def plot_side(rows: dict[str, Row], path: Path) -> None:
    """Seconds of the network, one bar a case, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = sorted(rows.values(), key=lambda row: row["network_s"])
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


def save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path.name}")
