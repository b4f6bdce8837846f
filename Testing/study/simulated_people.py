"""Simulated people with strokes at two times: heads that differ, poses, lesions that change."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.images.space.template import (
    MNI_GRID,
    template_brain,
    template_t1,
    upsample_linear,
)

SPACING_MM = 1.5
_SHAPE = (126, 156, 132)
# What becomes of a person's stroke from the first session to the second, in turn.
STORIES = ("grown", "unchanged", "new", "shrunken", "none")
# Centres and radii in MNI RAS mm of a cavity: territory of the middle cerebral artery, insula,
# corona radiata, occipital, cerebellum.
_PLACES = (
    ((-43.0, -8.0, 16.0), 19.0),
    ((42.0, -20.0, 20.0), 16.0),
    ((-26.0, -6.0, 24.0), 11.0),
    ((18.0, -78.0, 4.0), 14.0),
    ((40.0, 10.0, 4.0), 13.0),
)
_SECOND = ((30.0, 34.0, 10.0), 12.0)


@dataclass(frozen=True, eq=False)
class Session:
    """A scan with its truth on the same grid. ``story`` is the person's."""

    t1: Volume
    truth: Volume
    story: str


def story_of(person: int) -> str:
    return STORIES[person % len(STORIES)]


def simulated_sessions(person: int) -> tuple[Session, Session]:
    """Both sessions of a person: 1.5 mm, whole head, other pose and noise in each."""
    random = np.random.default_rng(1000 + person)
    warp = _warp(random)
    uneven = _noise(random, 5.0) * 0.18
    (x, y, z), radius = _PLACES[person % len(_PLACES)]
    centre = np.array([x, y, z]) + random.uniform(-4, 4, 3)
    radius *= random.uniform(0.9, 1.15)
    story = story_of(person)
    first: list[tuple[NDArray[np.float64], float]] = [(centre, radius)]
    second = list(first)
    if story == "grown":
        second = [(centre, 1.35 * radius)]
    elif story == "shrunken":
        second = [(centre, 0.7 * radius)]
    elif story == "new":
        second = [*first, (np.array(_SECOND[0]), _SECOND[1])]
    elif story == "none":
        first = second = []
    sessions = [
        _scan(strokes, warp, uneven, np.random.default_rng(100 * person + n), story)
        for n, strokes in enumerate((first, second))
    ]
    return sessions[0], sessions[1]


def _scan(
    strokes: list[tuple[NDArray[np.float64], float]],
    warp: NDArray[np.float32],
    uneven: NDArray[np.float32],
    random: np.random.Generator,
    story: str,
) -> Session:
    head, tissue, fluid = _head()
    lesion = np.zeros(head.shape, bool)
    k, j, i = np.ogrid[: head.shape[0], : head.shape[1], : head.shape[2]]
    shift = MNI_GRID.affine[:3, 3]
    for centre, radius in strokes:
        at = (i + shift[0] - centre[0], j + shift[1] - centre[1], k + shift[2] - centre[2])
        distance = np.sqrt(sum(part.astype(np.float32) ** 2 for part in at)) / radius
        lesion |= tissue & (1 - distance + uneven > 0)
    if strokes:
        lesion = ndimage.binary_opening(lesion)
    loss = ndimage.gaussian_filter(lesion.astype(np.float32), 0.8)
    image = head * (1 - loss) + fluid * loss
    # Another pose: the scan's voxels are looked up in the head.
    turn = Rotation.from_euler("xyz", random.uniform(-6, 6, 3), degrees=True).as_matrix()
    middle = (np.array(head.shape, np.float32) - 1) / 2
    where = SPACING_MM * np.indices(_SHAPE, np.float32).reshape(3, -1) - middle[:, None]
    aside = (middle + random.uniform(-5, 5, 3)).astype(np.float32)
    moved = turn.astype(np.float32) @ where + aside[:, None]
    moved += _at(warp, moved)
    image, lost = _at(np.stack([image, loss]), moved).reshape(2, *_SHAPE)
    truth = lost >= 0.5
    image *= np.exp(0.08 * _noise(random, 40.0)[tuple(slice(n) for n in _SHAPE)])
    image = np.abs(image + 0.015 * random.standard_normal(image.shape, dtype=np.float32))
    affine = MNI_GRID.affine.copy()
    affine[:3, :3] *= SPACING_MM
    affine[:3, 3] += random.uniform(-12, 12, 3)
    return Session(
        Volume(np.rint(800 * image).astype(np.int16), affine),
        Volume(truth.astype(np.uint8), affine),
        story,
    )


def _at(maps: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values of maps (M, K, J, I) at points (3, N; k, j, i): (M, N), 0 outside."""
    sides = torch.tensor(maps.shape[1:], dtype=torch.float32) - 1
    where = 2 * torch.from_numpy(points).T / sides - 1
    grid = where.flip(1).reshape(1, 1, 1, -1, 3)
    values = F.grid_sample(torch.from_numpy(maps)[None], grid, align_corners=True)
    return values.reshape(len(maps), -1).numpy()


@functools.lru_cache(maxsize=1)
def _head() -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """The template as a whole head, what of it is tissue, and how dark fluid is."""
    coarse = template_brain().array.astype(np.float32) / 255
    brain = upsample_linear(coarse)
    image = upsample_linear(template_t1().array) / np.float32(template_t1().array.max())
    inside = brain > 0.5
    fluid = float(np.percentile(image[inside], 3))
    tissue = inside & (image > fluid + 0.45 * (float(np.median(image[inside])) - fluid))
    distance = upsample_linear(ndimage.distance_transform_edt(coarse < 0.5).astype(np.float32) * 2)
    shell = np.select([distance <= 2, distance <= 8, distance <= 14], [fluid, 0.06, 0.85], 0.0)
    return (brain * image + (1 - brain) * shell).astype(np.float32), tissue, fluid


def _warp(random: np.random.Generator) -> NDArray[np.float32]:
    """What makes heads differ: smooth shifts of some millimetres, (3, K, J, I) voxels."""
    return np.stack([2.2 * _noise(random, 24.0) for _ in range(3)])


def _noise(random: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    """Smooth noise of unit standard deviation on the head's grid."""
    step = max(1, int(sigma // 2))
    coarse = [-(-n // step) + 2 for n in MNI_GRID.shape]
    noise = random.standard_normal(coarse, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    for axis, n in enumerate(MNI_GRID.shape):
        last = noise.shape[axis] - 1
        low, part = np.divmod(np.arange(n, dtype=np.float32) * last / ((last + 1) * step - 1), 1)
        low, part = low.astype(int), part.reshape([-1 if d == axis else 1 for d in range(3)])
        noise = (1 - part) * noise.take(low, axis) + part * noise.take(low + 1, axis)
    return (noise / noise.std()).astype(np.float32)


def write_series(folder: Path, volume: Volume, person: str, session: str) -> None:
    """The scan as a DICOM series of axial slices; RAS axes, int16."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True)
    base = f"1.2.826.0.1.3680043.10.511.21.{int(person) + 1}.{session}"
    low = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)[:3, 3]
    for number, plane in enumerate(volume.array):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MRImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{base}.1.{number + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID = base, f"{base}.1"
        data.FrameOfReferenceUID = f"{base}.2"
        data.Modality, data.SeriesDescription, data.SeriesNumber = "MR", "T1 MPRAGE", 1
        data.PatientName, data.PatientID = f"Simulated^{person}", f"SIM{person}"
        data.PatientBirthDate, data.PatientSex, data.AccessionNumber = "", "O", ""
        data.StudyDate, data.StudyTime, data.StudyID = f"2024010{session}", "120000", session
        data.ReferringPhysicianName, data.Manufacturer = "", "Simulated"
        data.InstanceNumber, data.ImageType = number + 1, ["ORIGINAL", "PRIMARY"]
        data.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        data.ImagePositionPatient = [low[0], low[1], low[2] + SPACING_MM * number]
        data.PixelSpacing, data.SliceThickness = [SPACING_MM] * 2, SPACING_MM
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = 0
        data.PixelData = np.ascontiguousarray(plane.astype(np.uint16)).tobytes()
        pydicom.dcmwrite(folder / f"{number:03d}.dcm", data, enforce_file_format=True)
