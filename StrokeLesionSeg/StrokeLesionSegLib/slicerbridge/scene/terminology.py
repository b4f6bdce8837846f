"""SNOMED CT codes of what is segmented. Slicer ships no infarct or stroke term, so we do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...resources import resource_path

CONTEXT = "StrokeLesionSeg"
FILE = "StrokeLesionSeg.term.json"

CATEGORY = ("SCT", "49755003", "Morphologically Altered Structure")
REGION_CONTEXT = "Anatomic codes - DICOM master list"
BRAIN = ("SCT", "12738006", "Brain")


@dataclass(frozen=True)
class Term:
    """One type of the terminology file: its code, meaning and recommended display colour."""

    code: str
    meaning: str
    color: tuple[float, float, float]

    def entry(self) -> str:
        """The terminology entry as Slicer keeps it in a segment's tag."""

        def coded(triple: tuple[str, str, str]) -> str:
            return "^".join(triple)

        return "~".join(
            [
                CONTEXT,
                coded(CATEGORY),
                coded(("SCT", self.code, self.meaning)),
                "^^",
                REGION_CONTEXT,
                coded(BRAIN),
                "^^",
            ]
        )


INFARCT = Term("55641003", "Infarct", (230 / 255, 75 / 255, 60 / 255))
ISCHEMIC_STROKE = Term("422504002", "Ischemic stroke", (235 / 255, 130 / 255, 50 / 255))


def load_terminology() -> bool:
    """Make the terms known to Slicer's terminology selector; True if they are available."""
    import slicer

    module = getattr(slicer.modules, "terminologies", None)
    if module is None:
        return False
    logic: Any = module.logic()
    import vtk

    names = vtk.vtkStringArray()
    logic.GetLoadedTerminologyNames(names)
    if CONTEXT in {names.GetValue(i) for i in range(names.GetNumberOfValues())}:
        return True
    return bool(logic.LoadTerminologyFromFile(str(resource_path("Terminologies", FILE))))


def set_term(segment: Any, term: Term = INFARCT) -> None:
    """Give a ``vtkSegment`` the term's code and colour."""
    segment.SetTag(segment.GetTerminologyEntryTagName(), term.entry())
    segment.SetColor(*term.color)
