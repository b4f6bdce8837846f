"""Figures of the data: sample (A2), pipeline (A14), overlap (B1), receptive fields (B10), profile
of lesion per slice (A4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.networks import build_network, encoder_receptive_field

from ..data.augment import paper_augment
from ..data.cache import Cache
from ..data.planes import STACK, Frame
from ..experiments.facts import lesion_diameters, lesion_per_slice
from .page import COLOURS, pyplot, save


def _nifti(array: np.ndarray) -> object:
    import nibabel as nib

    return nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), MNI_GRID.affine)


def median_scan(cache: Cache) -> int:
    """The scan whose lesion volume is the median of those with lesion."""
    sick = [n for n, s in enumerate(cache.scans) if s["volume_ml"] > 0]
    return sorted(sick, key=lambda n: cache.scans[n]["volume_ml"])[len(sick) // 2]


def sample(cache: Cache, out: Path) -> list[Path]:
    """A2: a T1 with its mask in three planes, cut through the lesion."""
    from nilearn import plotting

    plt = pyplot()
    n = median_scan(cache)
    mask = np.asarray(cache.masks[n])
    name = f"{cache.scans[n]['name']}, {cache.scans[n]['volume_ml']:.1f} mL"
    centre = np.argwhere(mask).mean(axis=0)[::-1]
    where = MNI_GRID.affine[:3, :3] @ centre + MNI_GRID.affine[:3, 3]
    figure = plt.figure(figsize=(8, 3))
    shown = plotting.plot_anat(
        _nifti(cache.images[n].astype(np.float32)),
        cut_coords=tuple(where),
        figure=figure,
        draw_cross=False,
        colorbar=False,
        vmin=0,
        vmax=255,
    )
    shown.add_contours(_nifti(mask.astype(np.float32)), levels=[0.5], colors=COLOURS[1])
    figure.suptitle(name, y=1.02, fontsize=9)
    return save(figure, out, "sample")


def overlap(cache: Cache, out: Path) -> list[Path]:
    """B1: share of the scans with lesion in each voxel, on the MNI152 template."""
    from nilearn import plotting
    from nilearn.datasets import load_mni152_template

    plt = pyplot()
    mean = np.zeros(cache.masks.shape[1:], np.float32)
    for mask in cache.masks:
        mean += mask
    mean *= 100 / len(cache)
    figure = plt.figure(figsize=(9, 2.6))
    plotting.plot_stat_map(
        _nifti(mean),
        bg_img=load_mni152_template(resolution=1),
        display_mode="z",
        cut_coords=[-30, -15, 0, 15, 30, 45],
        threshold=float(mean.max()) * 0.02 + 1e-6,
        cmap="inferno",
        vmin=0,
        vmax=float(mean.max()),
        symmetric_cbar=False,
        figure=figure,
        title=f"lesion in % of {len(cache)} scans",
    )
    return save(figure, out, "overlap")


def profile(cache: Cache, out: Path) -> list[Path]:
    """A4: lesion voxels per axial slice, with the paper's slices in both readings."""
    plt = pyplot()
    share = lesion_per_slice(cache).astype(float)
    share *= 100 / max(1.0, share.sum())
    figure, axes = plt.subplots(figsize=(6, 2.8))
    axes.fill_between(np.arange(len(share)), share, color="0.75", step="mid", label="lesion")
    spans = (("100 central slices", STACK), ("window, voxel z", (70, 90)))
    stack = ("window, within the stack", (STACK[0] + 70, STACK[0] + 90))
    for colour, (name, (a, b)) in zip(COLOURS, (*spans, stack), strict=False):
        label = f"{name}: {share[a:b].sum():.0f} %"
        axes.axvspan(a, b - 1, color=colour, alpha=0.2, label=label)
    axes.set(xlabel="axial slice z (1 mm)", ylabel="% of all lesion voxels", xlim=(0, len(share)))
    axes.legend(frameon=False, fontsize=8)
    return save(figure, out, "profile")


def receptive(cache: Cache, out: Path) -> list[Path]:
    """B10: diameters of the lesions in a slice beside what the deepest layers see."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6, 2.8))
    diameters = lesion_diameters(cache)
    axes.hist(diameters, bins=np.arange(0, 160, 4), color="0.75", label="lesions in slices")
    for colour, (name, spec) in zip(
        COLOURS,
        (
            ("CS230, 1 convolution", {"name": "cs230"}),
            ("CS230, 3 convolutions", {"name": "cs230", "convs_per_stage": 3}),
            ("residual U-Net", {"name": "residual_unet"}),
            ("U-Net", {"name": "unet"}),
        ),
        strict=False,
    ):
        with torch.device("meta"):
            size = encoder_receptive_field(build_network(spec)).size
        axes.axvline(size, color=colour, label=f"{name}: {size} mm")
    axes.set(xlabel="diameter, receptive field (mm)", ylabel="lesions")
    axes.legend(frameon=False, fontsize=8)
    return save(figure, out, "receptive")


def pipeline(cache: Cache, out: Path) -> list[Path]:
    """A14, figure 2: volume, window of slices, padding, three draws of augmentation with masks."""
    plt = pyplot()
    n = median_scan(cache)
    hit = np.asarray(cache.masks[n]).sum(axis=(1, 2))
    z = int(hit.argmax())
    frame = Frame("pad", 16)
    image = torch.from_numpy(np.array(cache.images[n, z]))[None, None].float() / 255
    mask = torch.from_numpy(np.array(cache.masks[n, z]))[None, None].float()
    padded, target = frame.put(image), frame.put(mask)
    draws = [paper_augment(torch.Generator().manual_seed(s), padded, target) for s in (1, 2, 3)]
    steps = [("slice, windowed", image, mask), ("padded", padded, target)]
    steps += [(f"augmented, draw {i}", a, b) for i, (a, b) in enumerate(draws, 1)]
    figure, axes = plt.subplots(1, len(steps), figsize=(2 * len(steps), 2.6))
    for axis, (title, a, b) in zip(axes, steps, strict=True):
        axis.imshow(a[0, 0], cmap="gray", origin="lower", vmin=0, vmax=1)
        if b.any():
            axis.contour(b[0, 0], levels=[0.5], colors=[COLOURS[1]], linewidths=1)
        axis.set_title(f"{title}\n{a.shape[-1]} x {a.shape[-2]}", fontsize=8)
        axis.axis("off")
    return save(figure, out, "pipeline")
