"""What a user may choose about adapting a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError
from ..loop import LoopOptions

#: Fewer subjects than this, and fewer that judge, say nothing.
LEAST_SUBJECTS, LEAST_KEPT = 12, 4


@dataclass(frozen=True)
class Sizes:
    """How much is looked at. ``own``, ``template``, ``healthy``: scans of the regression set: with
    strokes drawn into the user's scans, into the template, and the template without any.
    ``tuning``: heads that the operating point is chosen on, at most. ``clicks``: of the robot, on
    each kept scan, of which at most ``robots``."""

    own: int = 5
    template: int = 4
    healthy: int = 4
    tuning: int = 12
    clicks: int = 3
    robots: int = 8


@dataclass(frozen=True)
class AdaptOptions:
    """How to adapt.

    Attributes
    ----------
    name: of the new model; None takes the parent's with "-adapted" at its end.
    model: the parent's name or directory; None takes the default one.
    minutes: limit of the whole, judgement included, machine asleep not counted.
    seed: decides with the subjects who is judged, and what is drawn.
    threads: CPU threads; None takes what this process may use.
    work: where the run is kept until it is complete, in a folder of its own; None takes the user's
        cache.
    no_shared_subjects: says that nobody here was among those that the parent learnt from on
        another machine; asked for only if the parent comes without its local card.
    loop: rate and checkpoints of the training; its minutes are filled in.
    sizes: how much is looked at.

    Raises
    ------
    InputError
        For a time limit that is none.

    Examples
    --------
    >>> from StrokeLesionSegLib.learning.adapt import AdaptOptions
    >>> AdaptOptions(minutes=30).seed
    0
    """

    name: str | None = None
    model: str | Path | None = None
    minutes: float = 60.0
    seed: int = 0
    threads: int | None = None
    work: Path | None = None
    no_shared_subjects: bool = False
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            since=(0, 0.0), rate=3e-4, rise=10, fall=0.6, decay=0.98, save_minutes=2.0, report=20
        )
    )
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 100_000:
            raise InputError(
                "--minutes",
                f"{self.minutes:g} is not a time limit",
                "Give a number of minutes above 0",
            )
