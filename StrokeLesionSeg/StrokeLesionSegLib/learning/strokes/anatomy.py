"""What is the same in every head on the head box, and one real head as the simulator takes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...brief import brief_repr
from ...images.space.distance import squared_distance
from ...inference.head_box import HEAD_BOX, HEAD_ORIGIN_ZYX, HEAD_SHAPE
from .fields import dilate

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The template's brain on the head box.

    ``brain``: (160, 192, 160) bool. ``depth``: float32, mm from the brain's surface, 0 outside.
    """

    brain: Tensor
    depth: Tensor

    __repr__ = brief_repr

    @staticmethod
    @cache
    def of_template() -> Anatomy:
        """From the brain mask that ships, the same one every time. Raises ``FileNotFoundError``
        without it."""
        from ...images import mni_brain_mask

        return Anatomy.of_brain(mni_brain_mask().array[HEAD_BOX] != 0)

    @staticmethod
    def of_brain(brain: NDArray[np.bool_]) -> Anatomy:
        """From a (160, 192, 160) brain mask."""
        from scipy.ndimage import distance_transform_edt

        depth = distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1, 1:-1]
        return Anatomy(torch.from_numpy(brain), torch.from_numpy(depth.astype(np.float32)))

    @cached_property
    def outside(self) -> Tensor:
        """(160, 192, 160) float32: mm from the brain outside of it, at most 8, 0 inside."""
        far = squared_distance(self.brain.numpy(), 8.0)
        return torch.from_numpy(np.sqrt(far, dtype=np.float64).astype(np.float32)).clamp_max_(8)

    @cached_property
    def places(self) -> Tensor:
        """(N, 3) voxels k, j, i of the brain, every fourth along each axis."""
        return torch.nonzero(self.brain[::4, ::4, ::4]) * 4

    @cached_property
    def lateral(self) -> Tensor:
        """(160, 192, 160) bool: where lateral and third ventricles may lie."""
        z, y, x = coordinates()
        box = (x.abs() < 42) & (y > -78) & (y < 48) & (z > -26) & (z < 42) & (self.depth > 9)
        # Fluid that is no ventricle: fissure between the hemispheres, cisterns of the midbrain.
        fissure = (x.abs() < 5) & ((y > 26) | (z > 24))
        cistern = (x.abs() < 16) & (y < -28) & (z < 10)
        fossa = (z < -14) & (x.abs() < 20)
        return box & ~fissure & ~cistern & ~fossa

    def levels(self, image: Tensor) -> tuple[float, float]:
        """Grey values of fluid and of white matter of a (160, 192, 160) image in [0, 1]."""
        inside = image[self.brain][::37]
        return float(torch.quantile(inside, 0.03)), float(torch.quantile(inside, 0.80))


def coordinates() -> tuple[Tensor, Tensor, Tensor]:
    """z, y, x of every voxel in MNI mm, shaped to broadcast over (K, J, I)."""
    k, j, i = (
        torch.arange(n, dtype=torch.float32) + o
        for n, o in zip(HEAD_SHAPE, HEAD_ORIGIN_ZYX, strict=True)
    )
    return k.view(-1, 1, 1), j.view(1, -1, 1), i.view(1, 1, -1)


def voxel(z: float, y: float, x: float) -> Tensor:
    """(3,) index k, j, i of a point in MNI mm."""
    return torch.tensor([z, y, x]) - torch.tensor(HEAD_ORIGIN_ZYX, dtype=torch.float32)


def mirrored(x: Tensor) -> Tensor:
    """The other way round in x: (..., I) with index i at 160 - i; the last plane wraps."""
    return torch.roll(x.flip(-1), 1, -1)


@dataclass(frozen=True, eq=False)
class Head:
    """A real head, aligned to MNI152 and windowed.

    ``image``: (160, 192, 160) uint8, the windowed T1 times 255. ``ventricles``: bool.
    ``coarse``: True if the scan was of 2 mm, and may be sharpened. ``name``: of its file.
    ``lesions``: bool, the strokes that it has; None for a head without. ``said``: uint8 0 to 255,
    the probability of a teacher who marked them; None where a person did.
    """

    image: NDArray[np.uint8]
    ventricles: NDArray[np.bool_]
    coarse: bool
    name: str = ""
    lesions: NDArray[np.bool_] | None = None
    said: NDArray[np.uint8] | None = None

    __repr__ = brief_repr


def fluid_frequency(images: list[NDArray[np.uint8]], anatomy: Anatomy) -> Tensor:
    """Share of the heads in which a voxel is fluid within ``anatomy.lateral``, (160, 192, 160)."""
    total = torch.zeros(HEAD_SHAPE)
    for image in images:
        x = torch.from_numpy(image).float() / 255
        total += _fluid(x, *anatomy.levels(x))
    return total / max(1, len(images)) * anatomy.lateral


def find_ventricles(
    image: NDArray[np.uint8], anatomy: Anatomy, frequency: Tensor
) -> NDArray[np.bool_]:
    """Lateral and third ventricles of a head without stroke: (160, 192, 160) bool.

    ``frequency`` is of ``fluid_frequency``. Fluid within 6 mm of where most heads have some, in
    pieces that reach there with at least 60 voxels.
    """
    from scipy.ndimage import label

    x = torch.from_numpy(image).float() / 255
    core = frequency > 0.5
    near = (dilate(core.float(), 6) > 0) & anatomy.lateral
    pieces, _ = label((_fluid(x, *anatomy.levels(x)) & near).numpy())
    keep = np.bincount(pieces.ravel(), weights=core.numpy().ravel()) >= 60
    keep[0] = False
    return keep[pieces]


def _fluid(x: Tensor, fluid: float, white: float) -> Tensor:
    return x < fluid + 0.4 * (white - fluid)
