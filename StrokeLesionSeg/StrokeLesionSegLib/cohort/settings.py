"""What is the same for all scans of a batch, and what of it decides what is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..atlases import AtlasChoice
from ..errors import InputError
from ..operating_point import OperatingPoint
from ..spaces import NATIVE

if TYPE_CHECKING:
    from ..inference import SegmentOptions

# How models of others run unless something else is asked for.
_AS_USUAL = {"exact": False, "mirror": True}


@dataclass(frozen=True)
class ReportChoice:
    """What goes into the scans' pages.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import ReportChoice
    >>> ReportChoice(convention="neurological").identity["show_paths"]
    False
    """

    convention: str = "radiological"
    show_paths: bool = False
    viewer: bool = True

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how the pages look."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """What is the same for all scans of a batch.

    Attributes
    ----------
    out: absolute path of the output folder. run: the batch's identity, as in its lock.
    model: name or directory of the model. manifest: its name, version and sha256.
    options: with the views filled in. point: the operating point.
    dicom_seg, dicom_sr, dicom_rtstruct: write DICOM Segmentation, report, contours for scans that
        are DICOM.
    report: write an HTML page for every scan, with this in it; None writes none.
    atlas: which atlas volumes are told by.
    spaces: those of ``spaces.SPACES`` that results are written in.
    deformable: deform the scans to MNI space, their lesions left out.
    probability: write the probability maps.
    force: segment what the input check refuses, too.
    study: the study's identity, which its pages bear. title: of the group's page, or empty.
    convention: on which side the group's page shows the left.
    version: of the program that began the batch.
    digest: checksum of ``parameters``: scans done with another one are done again.
    """

    out: Path
    run: str
    model: str
    manifest: dict[str, str]
    options: SegmentOptions
    point: OperatingPoint
    dicom_seg: bool = False
    dicom_sr: bool = False
    dicom_rtstruct: bool = False
    report: ReportChoice | None = None
    atlas: AtlasChoice = field(default_factory=AtlasChoice)
    spaces: tuple[str, ...] = (NATIVE,)
    deformable: bool = False
    probability: bool = True
    force: bool = False
    study: str = ""
    title: str = ""
    convention: str = "radiological"
    version: str = __version__
    digest: str = ""

    def with_digest(self) -> Settings:
        """The same with its ``digest``; raises ``InputError`` if the atlas cannot be read."""
        try:
            text = json.dumps(self.parameters, sort_keys=True)
        except OSError as error:
            raise InputError(
                error.filename or "atlas", f"cannot be read ({error.strerror})", "Check the file"
            ) from error
        return replace(self, digest=hashlib.sha256(text.encode()).hexdigest()[:16])

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that decides what is written; not how fast (device, threads, batch size), nor
        ``force``, which decides whether.

        Raises ``OSError`` if the atlas cannot be read.
        """
        options = asdict(self.options)
        kept = {k: options[k] for k in ("views", "tta", "align", "precision", "crop")}
        # Of models of others; said only where it is not as usual, so that what was done before
        # they were said here is not done again.
        kept |= {k: options[k] for k, usual in _AS_USUAL.items() if options[k] != usual}
        return {
            "version": self.version,
            "model": self.manifest,
            **kept,
            **self.point.as_dict(),
            "dicom_seg": self.dicom_seg,
            "dicom_sr": self.dicom_sr,
            "dicom_rtstruct": self.dicom_rtstruct,
            "atlas": self.atlas.identity,
            "spaces": list(self.spaces),
            "deformable": self.deformable,
            "probability": self.probability,
            "report": None if self.report is None else self.report.identity,
        }
