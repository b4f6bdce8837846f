"""What made a segment, as its tags keep it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...operating_point import OperatingPoint

if TYPE_CHECKING:
    from ...models import Manifest

TAG = "StrokeLesionSeg."


@dataclass(frozen=True)
class Provenance:
    """What made a segment; kept in the segment's tags and so in the scene."""

    model: str = ""
    version: str = ""
    checksum: str = ""
    threshold: float = 0.5
    second_threshold: float | None = None  # kept while the slider is above it
    min_volume_ml: float = 0.0
    views: str = ""
    date: str = ""
    dropped: str = ""  # voxels of lesions that a reader left out, see ``seeds_to_text``
    to_mni: NDArray[np.float64] | None = field(default=None, compare=False)
    alignment: str = ""  # overlap and similarity of the alignment, two numbers
    min_mean_probability: float = 0.0

    @property
    def operating_point(self) -> OperatingPoint:
        """What makes the mask of the probability."""
        return OperatingPoint.at(
            self.threshold, self.second_threshold, self.min_volume_ml, self.min_mean_probability
        )

    def tags(self) -> dict[str, str]:
        """As strings, by tag name without the prefix."""
        mni, second = self.to_mni, self.second_threshold
        return {
            "Model": self.model,
            "ModelVersion": self.version,
            "Checksum": self.checksum,
            "Threshold": f"{self.threshold:.6g}",
            "SecondThreshold": "" if second is None else f"{second:.6g}",
            "MinimumVolumeMl": f"{self.min_volume_ml:.6g}",
            "MinimumMeanProbability": f"{self.min_mean_probability:.6g}",
            "Views": self.views,
            "Dropped": self.dropped,
            "Alignment": self.alignment,
            "Date": self.date or datetime.now(timezone.utc).astimezone().isoformat("T", "seconds"),
            "ToMNI": "" if mni is None else " ".join(repr(float(v)) for v in np.ravel(mni)),
        }

    def moved(self, then: NDArray[np.float64], now: NDArray[np.float64]) -> Provenance:
        """The same of an image whose voxels lay at ``then`` and lie at ``now``, each 4x4 from ijk
        to RAS mm: its alignment goes along."""
        if self.to_mni is None:
            return self
        return replace(self, to_mni=self.to_mni @ then @ np.linalg.inv(now))

    def manifest(self) -> Manifest | None:
        """Of the model that made the segment; None if it was removed or replaced since."""
        from ...models import Manifest, find_model

        try:
            kept = Manifest.from_file(find_model(self.model or None))
        except InputError:
            return None
        return kept if kept.sha256 == self.checksum else None

    @classmethod
    def from_segment(cls, segment: Any) -> Provenance:
        """Read it back; what is missing has its default."""
        value = {name: get_tag(segment, name) for name in cls().tags()}
        mni = np.array([float(v) for v in value["ToMNI"].split()])
        return cls(
            value["Model"],
            value["ModelVersion"],
            value["Checksum"],
            float(value["Threshold"] or 0.5),
            float(value["SecondThreshold"]) if value["SecondThreshold"] else None,
            float(value["MinimumVolumeMl"] or 0.0),
            value["Views"],
            value["Date"],
            value["Dropped"],
            mni.reshape(4, 4) if mni.size == 16 else None,
            value["Alignment"],
            float(value["MinimumMeanProbability"] or 0.0),
        )


def get_tag(segment: Any, name: str) -> str:
    """The value of one of our tags, or an empty string."""
    import vtk

    # The binding wants a mutable string; both spellings of VTK are served.
    if not segment.HasTag(TAG + name):
        return ""
    value = vtk.reference("")
    segment.GetTag(TAG + name, value)
    return str(value.get())
