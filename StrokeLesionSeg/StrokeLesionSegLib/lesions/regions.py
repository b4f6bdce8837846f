"""Lesion volumes by the regions of an atlas: what a row of ``*_regions.tsv`` holds."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .tables import write_rows

#: A row is a region of the atlas, or several together, which other rows hold too.
REGION, UNION = "region", "union"
#: The row of what lies in no region.
OUTSIDE = "in no region"
#: The columns of a table of regions, with what they mean, for ``*_regions.json``.
REGION_COLUMNS: dict[str, dict[str, str]] = {
    "region": {"Description": f"Region of the atlas; '{OUTSIDE}' for the rest of the lesions"},
    "side": {
        "Description": "The patient's side: left or right of the mid-sagittal plane of MNI152, or "
        "what the atlas says of the region"
    },
    "kind": {
        "Description": "region, or union for several regions together, which other rows hold too"
    },
    "volume_ml": {"Description": "Lesion volume in it, on the scan's own grid", "Units": "mL"},
    "share_of_region": {
        "Description": "Part of the region that is lesion, 0 to 1, measured in MNI152 space"
    },
    "share_of_lesion": {"Description": "Part of all lesions of the scan that lies in it, 0 to 1"},
}
#: The columns of a group's summary by region.
SUMMARY_COLUMNS: dict[str, dict[str, str]] = {
    **{name: REGION_COLUMNS[name] for name in ("region", "side", "kind")},
    "scans": {"Description": "Aligned scans with lesion in it"},
    "share_of_scans": {"Description": "The same as a share of all aligned scans, 0 to 1"},
    "mean_ml": {"Description": "Mean lesion volume in it, over all aligned scans", "Units": "mL"},
    "median_ml_of_hit": {
        "Description": "Median lesion volume in it, over scans with lesion in it",
        "Units": "mL",
    },
    "largest_ml": {"Description": "Largest lesion volume in it", "Units": "mL"},
    "mean_share_of_region": {
        "Description": "Mean part of the region that is lesion, over all aligned scans, 0 to 1"
    },
}


@dataclass(frozen=True)
class RegionVolume:
    """The part of the lesions that lies in one region of an atlas, on one side.

    Attributes
    ----------
    region: its name, without the side. side: "left", "right" (the patient's), or "" if the whole
        region is meant.
    volume_ml: lesion volume in it, mL.
    share_of_region, share_of_lesion: 0 to 1; None if not known.
    kind: ``REGION``, or ``UNION`` for several regions together.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import RegionVolume
    >>> RegionVolume("insula", "left", 1.5, 0.2, 0.75).row()["volume_ml"]
    1.5
    """

    region: str
    side: str
    volume_ml: float
    share_of_region: float | None = None
    share_of_lesion: float | None = None
    kind: str = REGION

    def row(self) -> dict[str, Any]:
        """By the names of ``REGION_COLUMNS``."""
        return {
            "region": self.region,
            "side": self.side or None,
            "kind": self.kind,
            "volume_ml": self.volume_ml,
            "share_of_region": self.share_of_region,
            "share_of_lesion": self.share_of_lesion,
        }


@dataclass(frozen=True)
class RegionTable:
    """Lesion volume by region. Rows of the kind ``REGION`` and ``outside_ml`` add up to all.

    Attributes
    ----------
    title: the atlas's name.
    rows: those that hold lesion, largest volume first, unions last.
    outside_ml: lesion volume in no region, mL.
    notes: one sentence each, about what is odd of the atlas.
    deformable: whether the scan was deformed to the atlas, and not only aligned by an affine.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import RegionTable, RegionVolume
    >>> table = RegionTable("an atlas", (RegionVolume("insula", "left", 1.5),), outside_ml=0.25)
    >>> table.total_ml
    1.75
    """

    title: str
    rows: tuple[RegionVolume, ...]
    outside_ml: float
    notes: tuple[str, ...] = ()
    deformable: bool = False

    @property
    def total_ml(self) -> float:
        """Volume of all lesions, mL."""
        return sum(row.volume_ml for row in self.rows if row.kind == REGION) + self.outside_ml

    def table_rows(self) -> list[dict[str, Any]]:
        """Rows for a TSV, what lies in no region last."""
        rows = [row.row() for row in self.rows]
        if self.outside_ml > 0:
            share = self.outside_ml / self.total_ml
            rows.append(RegionVolume(OUTSIDE, "", self.outside_ml, None, share).row())
        return rows


def write_regions(path: str | os.PathLike[str], table: RegionTable) -> None:
    """Write ``table`` as TSV with the columns of ``REGION_COLUMNS``.

    Raises ``InputError`` if it cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.lesions import RegionTable, RegionVolume, write_regions
    >>> table = RegionTable("an atlas", (RegionVolume("insula", "left", 1.5),), 0.0)
    >>> write_regions("regions.tsv", table)
    >>> Path("regions.tsv").read_text().splitlines()[1].split("\\t")[:4]
    ['insula', 'left', 'region', '1.5']
    """
    write_rows(path, tuple(REGION_COLUMNS), table.table_rows())


def region_summary(rows: Iterable[Mapping[str, Any]], scans: int) -> list[dict[str, Any]]:
    """One row for each region and side of a group, those that are hit most often first.

    ``rows``: of all scans' tables, with the names of ``REGION_COLUMNS``. ``scans``: number of
    scans that have a table, those without lesion included.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import RegionVolume, region_summary
    >>> rows = [RegionVolume("insula", "left", ml, 0.1).row() for ml in (1.0, 3.0)]
    >>> [(row["scans"], row["mean_ml"], row["share_of_scans"]) for row in region_summary(rows, 4)]
    [(2, 1.0, 0.5)]
    """
    held: dict[tuple[str, str | None, str], list[tuple[float, float]]] = {}
    for row in rows:
        key = (row["region"], row["side"], row["kind"])
        held.setdefault(key, []).append((row["volume_ml"], row["share_of_region"] or 0.0))
    summary = []
    for (region, side, kind), found in held.items():
        volumes = [ml for ml, _ in found]
        summary.append(
            {
                "region": region,
                "side": side,
                "kind": kind,
                "scans": len(found),
                "share_of_scans": len(found) / scans,
                "mean_ml": sum(volumes) / scans,
                "median_ml_of_hit": statistics.median(volumes),
                "largest_ml": max(volumes),
                "mean_share_of_region": None
                if region == OUTSIDE
                else sum(share for _, share in found) / scans,
            }
        )
    return sorted(summary, key=lambda row: (-row["scans"], -row["mean_ml"], row["region"]))
