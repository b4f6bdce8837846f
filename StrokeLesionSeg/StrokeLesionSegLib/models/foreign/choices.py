"""What the user says about a model of others where its files do not."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InputError
from ..window_settings import is_orientation
from .mni_grids import MNI_GRIDS

#: What ``ImportChoices.space`` may be: native, or a grid in MNI space.
SPACES = ("native", *MNI_GRIDS)


class ChoiceNeeded(InputError):
    """The files do not say where the training scans lay or how they were stored.

    Attributes
    ----------
    space, orientation: which of the two ``ImportChoices`` have to be made.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import ChoiceNeeded
    >>> ChoiceNeeded("model.zip", space=False, orientation=True).remedy
    'Add --orientation RAS (or how the training scans were stored)'
    """

    def __init__(self, where: object, *, space: bool, orientation: bool) -> None:
        missing = []
        if space:
            missing.append(f"--space native (or {', '.join(MNI_GRIDS)})")
        if orientation:
            missing.append("--orientation RAS (or how the training scans were stored)")
        super().__init__(
            str(where),
            "the plans do not say in which space the training scans lay and how they were stored",
            f"Add {' and '.join(missing)}",
        )
        self.space, self.orientation = space, orientation


@dataclass(frozen=True)
class ImportChoices:
    """How a model of others is to be installed; None: as its files say.

    Attributes
    ----------
    name: the model's name here; of ours, too.
    configuration: of nnU-Net, such as "3d_fullres", where the folder holds several.
    folds: names of the folds ("0", "all"); None: all that are there.
    lesion: the label that is the lesion, where there are several.
    space: "native", or the name of a grid in MNI space that the training scans lay on.
    orientation: how the training scans' arrays were stored, in nibabel's letters ("RAS", "LPS").
    license, source: as the user states them.

    Raises ``InputError`` for a space or an orientation that does not exist.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import ImportChoices
    >>> ImportChoices(space="native", orientation="LPS").folds is None
    True
    """

    name: str | None = None
    configuration: str | None = None
    folds: tuple[str, ...] | None = None
    lesion: str | None = None
    space: str | None = None
    orientation: str | None = None
    license: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.space is not None and self.space not in SPACES:
            raise InputError(
                f"space {self.space!r}", "there is no such space", f"Use {', '.join(SPACES)}"
            )
        if self.orientation is not None and not is_orientation(self.orientation):
            raise InputError(
                f"orientation {self.orientation!r}",
                "is not three letters such as RAS or LPS",
                "Give what nibabel's aff2axcodes says of a training scan",
            )
