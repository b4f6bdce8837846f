"""The report of a segment as it is now, corrected by hand or not: one HTML page for people.

Nodes are read in the main thread; the page is made in a worker thread that touches arrays only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.polled_thread import PolledThread
from ..i18n import tr as _
from ..scene.probability_map import ProbabilityMap, seeds_from_text
from ..scene.provenance import Provenance
from ..scene.results import edited, read_segment
from ..scene.volumes import affine_from_node, voxels_from_node
from .measure import lesions_of_patch

if TYPE_CHECKING:
    from ...lesions import RegionTable

_FORBIDDEN = '<>:"/\\|?*'


class Report:
    """One report on its way. ``path`` is the page; ``wait()`` returns it or raises."""

    def __init__(
        self,
        segmentation_node: Any,
        segment_id: str,
        volume_node: Any,
        probability: ProbabilityMap | None,
        uncertainty_node: Any | None,
        folder: Path,
    ) -> None:
        name = volume_node.GetName() or "scan"
        self.path = unused_path(folder, f"{name} lesions")
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        self._made = Provenance.from_segment(segment)
        self._by_hand = edited(segmentation_node, segment_id, volume_node)
        self._patch = read_segment(segmentation_node, segment_id, volume_node)
        self._probability = probability
        # Copies: the nodes may change or go while the page is made.
        self._voxels = np.array(voxels_from_node(volume_node))
        self._affine = affine_from_node(volume_node)
        self._uncertainty = (
            None if uncertainty_node is None else np.array(voxels_from_node(uncertainty_node))
        )
        self._name = name
        self._work = PolledThread(self._write)

    def poll(self) -> bool:
        """True while the page is being made; lets the thread work for a moment."""
        return self._work.poll()

    def wait(self) -> Path:
        """The path of the page once it is there; raises what went wrong."""
        self._work.result()
        return self.path

    def _write(self) -> None:
        from ...images import Alignment, checked_scan
        from ...images.volume import Volume
        from ...lesions import expected_dice
        from ...outputs import os_input_error
        from ...pipeline import software_versions
        from ...report import RunFacts, report_content, write_scan_report

        made = self._made
        found = lesions_of_patch(self._patch, made.to_mni, self._probability)
        scan = checked_scan(self._name, self._voxels, self._affine)
        alignment = None
        if made.to_mni is not None:
            overlap, similarity = (*map(float, made.alignment.split()), 0.0, 0.0)[:2]
            alignment = Alignment(made.to_mni, True, "", overlap, similarity, 0.0)
        manifest = made.manifest()
        warnings = []
        if self._by_hand:
            warnings.append(_("The segment was corrected by hand after the network had made it."))
        if manifest is None and made.model:
            warnings.append(
                _("Made with the model {model} {version}, which is not installed any more.").format(
                    model=made.model, version=made.version
                )
            )
        calibration = None if manifest is None else manifest.inference.calibration
        expected = None
        if self._probability is not None and calibration is not None and not self._left_out():
            p, mask = self._probability.volume.array, found.lesion_map.mask
            expected = expected_dice(p, mask, calibration=calibration).value
        # The settings that made the segment, not those of measuring it.
        lesion_map = replace(found.lesion_map, operating_point=made.operating_point)
        content = report_content(
            scan,
            lesion_map,
            uncertainty=None
            if self._uncertainty is None
            else Volume(self._uncertainty, self._affine),
            alignment=alignment,
            regions=regions_of(found.lesion_map.mask, self._affine, made.to_mni),
            run=RunFacts(
                manifest,
                settings={"views": made.views} if made.views else {},
                versions=software_versions(),
                warnings=warnings,
                expected_dice=expected,
            ),
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_input_error(error, self.path.parent) from error
        write_scan_report(self.path, content, overwrite=False)

    def _left_out(self) -> bool:
        """Whether a reader has corrected the segment or left lesions out of it: by its probability
        the model would still expect them."""
        if self._by_hand or self._probability is None:
            return self._by_hand
        seeds = seeds_from_text(self._made.dropped)
        return bool(self._probability.lesions(self._made.operating_point, seeds).dropped)


def regions_of(
    mask: np.ndarray, affine: np.ndarray, to_mni: np.ndarray | None
) -> RegionTable | None:
    """Volumes by the regions of the shipped atlas, of a mask (K, J, I); None without alignment."""
    from ...atlases import region_table
    from ...images.volume import Volume

    return None if to_mni is None else region_table(Volume(mask, affine), to_mni)


def unused_path(folder: Path, name: str) -> Path:
    """``folder/name.html`` with a name that no file has and every system allows."""
    safe = safe_name(name)
    path, count = folder / f"{safe}.html", 1
    while path.exists():
        count += 1
        path = folder / f"{safe} {count}.html"
    return path


def safe_name(name: str) -> str:
    """``name`` as every system allows it for a file."""
    safe = "".join("_" if c in _FORBIDDEN or ord(c) < 32 else c for c in name).strip(". ")
    return safe[:80] or "scan"
