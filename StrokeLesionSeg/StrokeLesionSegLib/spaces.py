"""The spaces that results can be written in, by their BIDS names."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import InputError

#: The scan's own grid, as BIDS apps call it.
NATIVE = "native"
#: The template's space; its grid is ``images.MNI_GRID``.
MNI_SPACE = "MNI152NLin2009aSym"
SPACES = (NATIVE, MNI_SPACE)


def read_spaces(text: str) -> tuple[str, ...]:
    """Names with commas between them; the native one is always among them.

    Raises ``InputError`` for a name that does not exist.

    Examples
    --------
    >>> from StrokeLesionSegLib.spaces import read_spaces
    >>> read_spaces("MNI152NLin2009aSym")
    ('native', 'MNI152NLin2009aSym')
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SPACES:
            raise InputError(
                f"--space {name}", "there is no such space", f"Use {' or '.join(SPACES)}"
            )
    return tuple(name for name in SPACES if name in {NATIVE, *names})


def check_spaces(spaces: Iterable[str], align: str) -> None:
    """Raise ``InputError`` if ``align`` leads to none of ``spaces`` but the scan's own.

    Examples
    --------
    >>> from StrokeLesionSegLib.spaces import check_spaces
    >>> check_spaces(("native",), "none")
    """
    if MNI_SPACE in spaces and align == "none":
        raise InputError(
            f"--space {MNI_SPACE}", "needs alignment to MNI152", "Leave out --align none"
        )


def check_deformable(deformable: bool, spaces: Iterable[str]) -> None:
    """Raise ``InputError`` if a deformation is wanted, and nothing in MNI space.

    Examples
    --------
    >>> from StrokeLesionSegLib.spaces import check_deformable
    >>> check_deformable(False, ("native",))
    """
    if deformable and MNI_SPACE not in spaces:
        raise InputError(
            "--deformable", "needs results in MNI space", f"Add --space {NATIVE},{MNI_SPACE}"
        )
