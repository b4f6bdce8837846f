"""A tiny random model and small images for the tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

AFFINE = np.array(
    [[-1.2, 0, 0, 24.0], [0, 1.2, 0, -27.0], [0, 0, 1.5, -24.0], [0, 0, 0, 1.0]]
)  # LAS axes, unequal spacing
SHAPE = (40, 46, 32)


def write_tiny_model(home: Path, name: str = "tiny", **changes: Any) -> Path:
    """A model with fixed random weights in the user cache ``home``; returns its folder.

    Its probabilities are near one half everywhere, so a threshold of 0.3 finds lesions surely.
    """
    import torch
    from model_manifest import CHANNELS, model_manifest
    from StrokeLesionSegLib.models import write_model
    from StrokeLesionSegLib.networks import build_network

    spec = {
        "name": "residual_unet",
        "in_channels": len(CHANNELS),
        "skip": "stem",
        "filters": [4, 4],
    }
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    network = build_network(spec)
    torch.random.set_rng_state(state)
    manifest = model_manifest(name, spec, version="0.0.1", **changes)
    folder = home / "models" / name
    write_model(folder, manifest, network.state_dict())
    return folder


def head_array(seed: int = 0) -> np.ndarray:
    """An ellipsoid with texture, (I, J, K) = ``SHAPE``, int16."""
    random = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in SHAPE), indexing="ij")
    inside = i**2 + j**2 + k**2 < 1
    values = 600 + 120 * np.sin(5 * i) * np.cos(4 * j) + 20 * random.standard_normal(SHAPE)
    return np.where(inside, values, 0).astype(np.int16)


def write_head(path: Path, array: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    """A NIfTI file of ``array`` (default: ``head_array()``)."""
    image = nibabel.Nifti1Image(head_array() if array is None else array, affine)
    nibabel.save(image, path)
    return path


def write_dicom_series(
    folder: Path,
    *,
    uid: str,
    slices: int = 12,
    shift: float = 0.0,
    study: str = "1.2.826.0.1.3680043.10.511.1",
    **elements: Any,
) -> Path:
    """A small MR series, one file a slice; all with the same study, and with further elements."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    volume = head_array()
    for number in range(slices):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = MRImageStorage
        data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number + 1}"
        data.StudyInstanceUID = study
        data.SeriesInstanceUID = uid
        data.FrameOfReferenceUID = "1.2.826.0.1.3680043.10.511.2"
        data.Modality = "MR"
        data.SeriesDescription = f"T1 {uid[-1]}"
        data.SeriesNumber = 1
        data.InstanceNumber = number + 1
        data.PatientName, data.PatientID = "Test^Phantom", "0"
        data.ImageType = ["ORIGINAL", "PRIMARY"]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [-40.0 + shift, -45.0, -30.0 + 5.0 * number]
        data.PixelSpacing = [2.0, 2.0]
        data.SliceThickness = 5.0
        data.Rows, data.Columns = SHAPE[1], SHAPE[0]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = 0
        plane = volume[:, :, (number * SHAPE[2]) // slices].T.astype(np.uint16)
        data.PixelData = np.ascontiguousarray(plane).tobytes()
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        name = folder / f"{uid[-1]}_{number:03d}.dcm"
        pydicom.dcmwrite(name, data, enforce_file_format=True)
    return folder
