"""A cache in the memory of the device that trains: slices are cut out there, in batches.

Reading 2D slices out of a memory-mapped volume is a copy on the host, a copy to the device and, for
sagittal slices, one cache line per voxel. A whole ATLAS is 11.4 GB of bytes and fits on most GPUs
that train, where a batch is then one gather.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from .cache import Cache
from .neighbourhood import SLICE_ALONE, Planes

# What stays free for the network, its gradients and its activations.
_SHARE_OF_MEMORY = 0.6


def free_memory(device: torch.device) -> int:
    """Bytes that are free on ``device``: of the GPU, or of this machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; MPS shares the machine's memory
        return 0


class ResidentCache:
    """Images and masks (N, K, J, I) uint8 on ``device``, and the cuts that training makes.

    ``probabilities``: a teacher's, 0 to 255, where the cache has some, else None. ``room`` is left
    empty behind the cache's scans, for others to be ``put`` there.
    """

    def __init__(self, cache: Cache, device: torch.device | str, room: int = 0) -> None:
        self.device = torch.device(device)
        self.shape = (len(cache) + room, *(int(n) for n in cache.images.shape[1:]))
        self.images = torch.zeros(self.shape, dtype=torch.uint8, device=self.device)
        self.masks = torch.zeros_like(self.images)
        said = cache.probabilities
        self.probabilities = None if said is None else torch.zeros_like(self.images)
        for n in range(len(cache)):
            self.put(n, cache.images[n], cache.masks[n], None if said is None else said[n])

    def put(
        self,
        n: int,
        image: np.ndarray | Tensor,
        mask: np.ndarray | Tensor,
        probability: np.ndarray | Tensor | None = None,
    ) -> None:
        """Place a volume (K, J, I) uint8 and its mask at number ``n``; without ``probability`` its
        mask is certain."""
        self.images[n].copy_(_tensor(image))
        self.masks[n].copy_(_tensor(mask))
        if self.probabilities is not None:
            said = _tensor(mask) * 255 if probability is None else _tensor(probability)
            self.probabilities[n].copy_(said)

    @staticmethod
    def fits(cache: Cache, device: torch.device | str, room: int = 0) -> bool:
        """Whether images, masks and probabilities take at most 60 % of what is free on
        ``device``."""
        scan = int(np.prod(cache.images.shape[1:], dtype=np.int64))
        wanted = (2 + (cache.probabilities is not None)) * scan * (len(cache) + room)
        return wanted <= _SHARE_OF_MEMORY * free_memory(torch.device(device))

    def slices(self, units: Tensor, neighbours: int = 1) -> tuple[Tensor, Tensor]:
        """Axial slices ``units`` (B, 2) (scan, z): images (B, ``neighbours``, J, I) with the slices
        around, at the ends of the volume the last one again, and masks (B, 1, J, I)."""
        n, z = units.to(self.device).unbind(dim=1)
        around = torch.arange(neighbours, device=self.device) - neighbours // 2
        zs = (z[:, None] + around).clamp(0, self.shape[1] - 1)
        return self.images[n[:, None], zs], self.masks[n, z][:, None]

    def slabs(self, units: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Slabs that start at ``units`` (B, 2): both (B, 1, ``depth``, J, I), zeros beyond."""
        n, z = units.to(self.device).unbind(dim=1)
        zs = z[:, None] + torch.arange(depth, device=self.device)
        inside = (zs < self.shape[1]).view(*zs.shape, 1, 1)
        zs = zs.clamp_max(self.shape[1] - 1)
        return tuple((a[n[:, None], zs] * inside)[:, None] for a in (self.images, self.masks))  # type: ignore[return-value]

    def patches(
        self, axis: int, places: Tensor, size: tuple[int, int], planes: Planes = SLICE_ALONE
    ) -> tuple[Tensor, Tensor]:
        """Patches of slices along ``axis`` (0 axial, 1 coronal, 2 sagittal): images (B, P, *size)
        and masks (B, M, *size) of ``planes``. ``places`` (B, 4): scan, slice, first row, first
        column."""
        where = places.to(self.device)
        images = [
            cut_patches(self.images, axis, where, size, offset, mirrored)
            for offset, mirrored in planes.of_image()
        ]
        masks = [cut_patches(self.masks, axis, where, size, n) for n in (0, *planes.offsets)]
        return torch.cat(images, dim=1), torch.cat(masks, dim=1)

    def soft_patches(self, axis: int, places: Tensor, size: tuple[int, int]) -> Tensor | None:
        """The teacher's probabilities of the same slices, (B, 1, *size) uint8, or None."""
        if self.probabilities is None:
            return None
        return cut_patches(self.probabilities, axis, places.to(self.device), size)


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def cut_patches(
    volumes: Tensor,
    axis: int,
    places: Tensor,
    size: tuple[int, ...],
    offset: int = 0,
    mirrored: bool = False,
) -> Tensor:
    """Patches (B, 1, *size) of slices along ``axis`` of ``volumes`` (N, K, J, I), on their device.

    ``places`` (B, 4), there too: volume, slice, first row, first column. ``offset``: so many slices
    further on (the last one beyond the end). ``mirrored``: of the volumes with left and right
    exchanged.
    """
    n, at, row, column = places.unbind(dim=1)
    at = (at + offset).clamp(0, volumes.shape[1 + axis] - 1)
    rows = row[:, None] + torch.arange(size[0], device=places.device)
    columns = column[:, None] + torch.arange(size[1], device=places.device)
    index = [at.view(-1, 1, 1)] * 3
    rest = [a for a in range(3) if a != axis]
    index[rest[0]], index[rest[1]] = rows[:, :, None], columns[:, None, :]
    if mirrored:
        index[2] = volumes.shape[3] - 1 - index[2]
    return volumes[(n.view(-1, 1, 1), *index)][:, None]
