"""A small cohort with corrected masks, and a tiny volumetric model, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from model_manifest import model_manifest
from StrokeLesionSegLib.images import MNI_GRID, Volume, write_volume
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from StrokeLesionSegLib.models import write_model
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from StrokeLesionSegLib.pipeline import sha256_of

SPEC = {"name": "volumetric_unet", "filters": [4, 6]}


def tiny_model(folder: Path) -> Path:
    """A volumetric model that knows nothing."""
    torch.manual_seed(3)
    manifest = model_manifest(
        "tiny", SPEC, kind="volumetric",
        channels=["t1", "t1_mirror", "template", "click_positive", "click_negative",
                  "previous_probability"],
        preprocessing={"grid": "mni152-2009a-1mm", "window_percentiles": [0.5, 99.5],
                       "window_low_of": "volume", "brain_mask_margin_mm": 3},
    )  # fmt: skip
    write_model(folder, manifest, VolumetricUNet(filters=(4, 6)).state_dict())
    return folder


def cohort(folder: Path, subjects: int) -> Path:
    """The template with a dark ball at another place for each subject, and a derivative that has
    its outline as corrected mask; returns the derivative."""
    head = upsample_linear(template_head().array)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in MNI_GRID.shape)]
    out = folder / "masks"
    (folder / "raw").mkdir(parents=True)
    out.mkdir()
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"input": "../raw"}}))
    for n in range(subjects):
        centre = (95 + 2 * (n % 5), 110 + 3 * (n % 7), 60 if n % 2 else 136)
        ball = sum((a - c) ** 2 for a, c in zip((k, j, i), centre, strict=True)) < 12**2
        image = np.where(ball, 0.25 * head, head).round().astype(np.uint8)
        name = f"sub-{n + 1:02d}"
        scan = folder / "raw" / f"{name}_T1w.nii"
        write_volume(scan, Volume(image, MNI_GRID.affine))
        place = out / name / "anat"
        place.mkdir(parents=True)
        write_volume(place / f"{name}_desc-corrected_mask.nii.gz",
                     Volume(ball.astype(np.uint8), MNI_GRID.affine))  # fmt: skip
        facts = {"Sources": [f"bids:input:{scan.name}"], "source": {"sha256": sha256_of(scan)}}
        (place / f"{name}_desc-corrected_mask.json").write_text(json.dumps(facts))
    return out
