"""What a comparison of two scans writes: a table, a sidecar, a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..outputs import OutputSet
from .documents import software_versions

if TYPE_CHECKING:
    from ..images import RigidAlignment
    from .time_points import Comparison, TimePoint


@dataclass(frozen=True)
class ChangePaths:
    """Where a comparison is written.

    Attributes
    ----------
    table: a row for each group of lesions. sidecar: totals, alignment, checksums. page: HTML.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import ChangePaths
    >>> ChangePaths.of(Path("out/change")).table.name
    'change.tsv'
    """

    table: Path
    sidecar: Path
    page: Path

    @classmethod
    def of(cls, start: Path) -> ChangePaths:
        """``start`` with an ending for each."""
        return cls(*(Path(f"{start}{ending}") for ending in (".tsv", ".json", ".html")))

    @property
    def documents(self) -> list[tuple[Path, str]]:
        """As ``OutputSet`` takes them."""
        return [(path, path.suffix) for path in (self.table, self.sidecar, self.page)]


def write_change(
    comparison: Comparison,
    paths: ChangePaths,
    outputs: OutputSet,
    *,
    convention: str,
    links: Sequence[tuple[str, str]] = (),
) -> None:
    """Stage all files of a comparison in ``outputs``.

    Parameters
    ----------
    convention: "radiological" or "neurological".
    links: titles and relative addresses of the pages of its study.

    Raises ``InputError`` if one cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.outputs import OutputSet
    >>> from StrokeLesionSegLib.pipeline import (
    ...     ChangePaths, TimePoint, compare_scans, write_change
    ... )
    >>> k, j, i = np.mgrid[-20:21, -20:21, -20:21]
    >>> head = (k**2 / 300 + j**2 / 200 + (i - 3) ** 2 / 100 < 1) * (100.0 + 2 * i + k)
    >>> volume = Volume(head.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> point = OperatingPoint(0.5)
    >>> points = [
    ...     TimePoint(str(at), volume, find_lesions(head > at, volume.affine, point))
    ...     for at in (125, 110)
    ... ]
    >>> paths = ChangePaths.of(Path("change"))
    >>> with OutputSet([], paths.documents) as outputs:
    ...     write_change(compare_scans(*points), paths, outputs, convention="radiological")
    ...     outputs.commit()
    >>> "grown" in paths.table.read_text(encoding="utf-8")
    True
    """
    from ..lesions import CHANGE_COLUMNS, write_rows, write_sidecar
    from ..report import write_change_report

    rows = [group.row() for group in comparison.groups]
    write_rows(outputs.staged(paths.table), tuple(CHANGE_COLUMNS), rows)
    write_sidecar(outputs.staged(paths.sidecar), _facts(comparison, convention))
    write_change_report(outputs.staged(paths.page), _content(comparison, convention, links))


def _facts(comparison: Comparison, convention: str) -> dict[str, Any]:
    from ..lesions import CHANGE_COLUMNS
    from ..lesions.change import REPEAT_ML, REPEAT_SHARE

    first, second = (
        {
            "name": side.name,
            "sha256": side.sha256,
            "mask_sha256": side.mask_sha256,
            "volume_ml": side.lesion_map.summary.volume_ml,
            "lesions": side.lesion_map.summary.count,
        }
        for side in (comparison.a, comparison.b)
    )
    alignment = comparison.alignment
    return {
        "software": {"name": "StrokeLesionSeg", "version": __version__},
        "versions": software_versions(),
        "notice": "For research. Not a medical device.",
        "first": first,
        "second": second,
        "change_ml": comparison.change_ml,
        "groups": comparison.counts(),
        "repeat_noise": {"ml": REPEAT_ML, "share_of_mean_volume": REPEAT_SHARE},
        "alignment": {
            "matrix_ras_mm_first_to_second": alignment.matrix.tolist(),
            "similarity": alignment.similarity,
            "same_person": alignment.same_person,
        },
        "report_convention": convention,
        "columns": CHANGE_COLUMNS,
    }


def _content(comparison: Comparison, convention: str, links: Sequence[tuple[str, str]]) -> Any:
    from ..images.space.rigid import on_grid
    from ..report import ChangeContent, ChangeSide

    alignment = comparison.alignment
    first, second = (
        ChangeSide(
            side.name,
            on_grid(side.volume, way, alignment.halfway),
            labels_halfway(side, way, alignment),
            side.lesion_map.summary,
        )
        for side, way in (
            (comparison.a, alignment.to_half_a),
            (comparison.b, alignment.to_half_b),
        )
    )
    return ChangeContent(
        first,
        second,
        alignment.halfway.affine,
        comparison.groups,
        alignment.similarity,
        convention,
        tuple(links),
    )


def labels_halfway(
    side: TimePoint, to_half: NDArray[np.float64], alignment: RigidAlignment
) -> NDArray[np.int32]:
    """The numbers of a scan's lesions on the halfway grid, 0 elsewhere: (K, J, I)."""
    from ..images import nearest_labels

    labels = np.zeros(alignment.halfway.shape, np.int32)
    mine = side.volume.with_array(side.lesion_map.labels)
    found = nearest_labels(mine, to_half, alignment.halfway)
    if found is not None:
        labels[found[0]] = found[1]
    return labels
