"""Which scans the bench consists of: a fixed list, every setting of it from its number."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.errors import InputError

from ..simulate.subject_split import kind_of, load_subject_split

SEED = 20_261_121
#: How a page calls the two procedures that draw strokes.
NAMES = {"first": "the simulator", "second": "independent simulator"}
LESIONED = 30  # of each procedure
HEALTHY = 7  # of each procedure, besides every test person as the scanner left them
_KINDS = ("cavity", "faint", "mixed", "cavity", "faint")


@dataclass(frozen=True)
class BenchCase:
    """One scan of the bench.

    Attributes
    ----------
    name: unique, also the name of its folder.
    procedure: "first" (``stroketrain.simulate``), "second" (``independent_simulator``), or "none":
        a real person's scan, untouched and without a stroke.
    person: file of the person, relative to the data folder.
    kind: "cavity", "mixed", "faint" or "healthy".
    geometry: "mni" (the grid of ATLAS R2.0) or "native" (rotated, anisotropic, other axis orders),
        or "own" for an untouched scan.
    thick: slices of 3 to 5 mm.
    strip: the skull is taken off by the independent simulator; ours draws that itself.
    seed: of everything random in it.
    """

    name: str
    procedure: str
    person: str
    kind: str
    geometry: str
    thick: bool
    strip: bool
    seed: int

    @property
    def multiple_sclerosis(self) -> bool:
        """Whether the person has multiple sclerosis, with plaques of their own."""
        return "openms" in self.person

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"multiple_sclerosis": self.multiple_sclerosis}


def make_plan(people: list[str], *, seed: int = SEED) -> list[BenchCase]:
    """All cases, in an order whose first n are always a mixture of everything.

    ``people``: files of part "test". People with multiple sclerosis get no stroke (nobody knows
    which of their lesions a rater would mark): they are lesion-free scans with look-alikes, a third
    of these. The independent simulator takes real T1s only: painting label maps is our code.
    """
    sclerosis = [p for p in people if "openms" in p]
    others = [p for p in people if p not in sclerosis]
    real = [p for p in others if kind_of(p) != "labels"]
    if not real:
        raise InputError("data", "has none of the people of the bench", "Name the data folder")
    rng = np.random.default_rng(seed)
    cases: list[BenchCase] = []

    def add(
        procedure: str, person: str, kind: str, geometry: str, thick: bool, strip: bool
    ) -> None:
        number = len(cases)
        label = f"{procedure}-{kind}-{geometry}{'-thick' if thick else ''}"
        entry = (procedure, person, kind, geometry, thick, strip, seed + number)
        cases.append(BenchCase(f"{number:03d}-{label}", *entry))

    for procedure, able in (("first", others), ("second", real)):
        for n in range(LESIONED + HEALTHY):
            healthy = n >= LESIONED
            ill = healthy and bool(sclerosis) and n % 3 == 0
            person = sclerosis[n % len(sclerosis)] if ill else able[n % len(able)]
            kind = "healthy" if healthy else _KINDS[n % len(_KINDS)]
            # Half on the MNI grid; of the native ones half with thick slices.
            geometry = "native" if (n // 2) % 2 else "mni"
            thick = geometry == "native" and n % 2 == 0
            strip = procedure == "second" and kind_of(person) == "head" and (n // 3) % 3 == 0
            add(procedure, person, kind, geometry, thick, strip)
    for person in (*real, *sclerosis):
        add("none", person, "healthy", "own", person in sclerosis, False)
    return [cases[n] for n in rng.permutation(len(cases))]


def plan_for(data: Path) -> list[BenchCase]:
    """``make_plan`` with the people and only the people of part "test" that ``data`` has.

    Raises ``InputError`` if there are none.
    """
    people = [f for f in load_subject_split()["people"]["test"] if (data / f).exists()]
    return make_plan(people)


def test_masks(data: Path) -> list[Path]:
    """The lesion masks of part "test" in ``data``."""
    return [data / f for f in load_subject_split()["masks"]["test"] if (data / f).exists()]
