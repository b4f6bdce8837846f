"""Heads on disk as the simulator takes them, masks that lend their shapes, and the template.

A head is ``NAME.npz`` (image, ventricles, coarse, lesions where it has some, said where a teacher
marked them); nothing is pickled.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..inference.head_box import HEAD_BOX, HEAD_SHAPE
from ..outputs import atomic_file
from .strokes.anatomy import Anatomy, Head, find_ventricles, fluid_frequency
from .strokes.shapes import MaskBank


def save_head(path: Path, head: Head) -> None:
    """Write a head to ``path``, which ends in ``.npz``; complete or not at all.

    Raises ``InputError`` if it cannot be written.
    """
    arrays: dict[str, Any] = {"image": head.image, "ventricles": np.packbits(head.ventricles)}
    if head.lesions is not None:
        arrays["lesions"] = np.packbits(head.lesions)
    if head.said is not None:
        arrays["said"] = head.said
    with atomic_file(path) as part:
        np.savez(part, coarse=np.array(head.coarse), **arrays)


def load_head(path: Path) -> Head:
    """A head that ``save_head`` wrote, called as its file.

    Raises ``InputError`` if it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as z:
            lesions = _unpacked(z["lesions"]) if "lesions" in z.files else None
            said = z["said"] if "said" in z.files else None
            return Head(
                z["image"], _unpacked(z["ventricles"]), bool(z["coarse"]), path.stem, lesions, said
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(path, f"the head cannot be read ({error})", "Prepare it again") from error


def save_bank(path: Path, bank: MaskBank) -> None:
    """Write masks to ``path``, which ends in ``.npz``; raises ``InputError`` if it cannot be."""
    with atomic_file(path) as part:
        np.savez(part, starts=bank.starts, shapes=bank.shapes, offsets=bank.offsets, bits=bank.bits)


def load_bank(path: Path) -> MaskBank:
    """The masks that ``save_bank`` wrote."""
    with np.load(path, allow_pickle=False) as z:
        return MaskBank(z["starts"], z["shapes"], z["offsets"], z["bits"])


def template_as_head(anatomy: Anatomy) -> Head:
    """The template that ships, which is a head without stroke.

    Raises ``FileNotFoundError`` if the installation lacks it.
    """
    from ..images.space.template import template_head, upsample_linear

    image = upsample_linear(template_head().array)[HEAD_BOX].round().astype(np.uint8)
    frequency = fluid_frequency([image], anatomy)
    return Head(image, find_ventricles(image, anatomy, frequency), coarse=True, name="template")


def _unpacked(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.unpackbits(bits).reshape(HEAD_SHAPE).astype(bool)
