"""Who is learnt from and who judges, handed down from parent to child."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...brief import counted
from ...errors import InputError
from .options import LEAST_KEPT, LEAST_SUBJECTS

_SHARE = 1 / 3
# Of so many that are learnt from a part may be spared.
_LEAST_TO_PART = 12


@dataclass(frozen=True)
class SubjectSplit:
    """Subjects, sorted: ``learn`` is trained on, ``kept`` judges."""

    learn: tuple[str, ...]
    kept: tuple[str, ...]


def person_of(subject: str) -> str:
    """What all spellings of a subject have in common: tables lose the capitals of ``P01`` and the
    zeros of ``01``, and a person in two spellings could be learnt from and judge.

    Examples
    --------
    >>> from StrokeLesionSegLib.learning.adapt.split import person_of
    >>> person_of("P007") == person_of("p7"), person_of("P10") == person_of("P1")
    (True, False)
    """
    return re.sub(r"(?<!\d)0+(?=\d)", "", subject.casefold())


def lot(subject: str, seed: int) -> float:
    """A number in [0, 1) that follows from subject and seed alone."""
    digest = hashlib.sha256(f"{seed}:{subject}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def choosing_subjects(learn: Sequence[str], seed: int) -> tuple[str, ...]:
    """Who of those that are learnt from is not trained on but chooses the network and its operating
    point: a quarter. All of fewer than 12, who are needed for both."""
    if len(learn) < _LEAST_TO_PART:
        return tuple(learn)
    order = sorted(learn, key=lambda s: (lot(f"chooses:{s}", seed), s))
    return tuple(sorted(order[: len(learn) // 4]))


def split_subjects(
    subjects: Sequence[str],
    seed: int,
    learnt: Collection[str] = (),
    kept: Collection[str] = (),
) -> SubjectSplit:
    """Who judges: those whose lot is in the lowest third, and if they are fewer than 4 the next
    ones. At least as many are learnt from.

    ``learnt``: whom an ancestor has learnt from: they never judge. ``kept``: who judged an
    ancestor: they come first, and learn only where they are more than half of all.

    Raises ``InputError`` for fewer than 12 subjects, and if too few are left that may judge.
    """
    order = sorted(set(subjects), key=lambda s: (lot(s, seed), s))
    if len(order) < LEAST_SUBJECTS:
        raise InputError(
            "corrected masks",
            f"{counted(len(order), 'subject')}, too few to train on and to test on",
            f"Correct the masks of at least {LEAST_SUBJECTS}",
        )
    known, judged = ({person_of(s) for s in part} for part in (learnt, kept))
    free = [s for s in order if person_of(s) not in known]
    chosen = [s for s in free if person_of(s) in judged]
    others = [s for s in free if person_of(s) not in judged]
    chosen += [s for s in others if lot(s, seed) < _SHARE]
    chosen += [s for s in others if s not in chosen][: max(0, LEAST_KEPT - len(chosen))]
    if len(chosen) < LEAST_KEPT:
        raise InputError(
            "corrected masks",
            f"{counted(len(chosen), 'subject')} left that the parent was not trained on, and "
            f"{LEAST_KEPT} are needed to test the new model",
            "Correct the masks of others, or start from the model that ships",
        )
    # Judges of an ancestor come first. No more than half judge, or too few would be learnt from.
    chosen = chosen[: max(LEAST_KEPT, len(order) // 2)]
    learn = [s for s in order if s not in set(chosen)]
    return SubjectSplit(tuple(sorted(learn)), tuple(sorted(chosen)))
