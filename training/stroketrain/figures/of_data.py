"""Figures of the data: sample (A2), pipeline (A14), overlap (B1), receptive fields (B10), profile
of lesion per slice (A4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.networks import build_network, encoder_receptive_field

from ..data.augment import paper_augment
from ..data.cache import Cache
from ..data.statistics import lesion_diameters, lesion_per_slice
from ..papers.planes import STACK, Frame
from .page import COLOURS, pyplot, save


def _nifti(array: np.ndarray) -> object:
    import nibabel as nib

    return nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), MNI_GRID.affine)


def median_scan(cache: Cache) -> int:
    """The scan whose lesion volume is the median of those with lesion."""
    sick = [n for n, s in enumerate(cache.scans) if s["volume_ml"] > 0]
    if not sick:
        raise InputError("figures", "no scan of the cache has a lesion", "Use another cache")
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
    # Above nilearn's black ground, which fills the whole figure.
    figure.text(0.5, 1.01, name, ha="center", va="bottom", fontsize=9)
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
    top = float(mean.max()) or 1.0
    figure = plt.figure(figsize=(9, 2.2))
    shown = plotting.plot_anat(
        load_mni152_template(resolution=1),
        display_mode="z",
        cut_coords=[-30, -15, 0, 15, 30, 45],
        figure=figure,
        axes=(0, 0, 0.93, 1),
        draw_cross=False,
        colorbar=False,
        black_bg=True,
    )
    # From half a scan on: every voxel that any lesion covers.
    shown.add_overlay(_nifti(mean), threshold=50 / len(cache), cmap="inferno", vmin=0, vmax=top)
    # A bar of our own: nilearn's writes the threshold across its zero.
    scale = plt.cm.ScalarMappable(plt.Normalize(0, top), "inferno")
    bar = figure.colorbar(scale, cax=figure.add_axes((0.945, 0.2, 0.012, 0.6)))
    bar.set_label("% of scans", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    of = f"lesion in {counted(len(cache), 'scan')}"
    figure.text(0.0, 1.01, of, ha="left", va="bottom", fontsize=9)
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
    axes.set(
        xlabel="axial slice z (1 mm, from below)",
        ylabel="% of all lesion voxels",
        xlim=(0, len(share)),
        ylim=(0, None),
    )
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return save(figure, out, "profile")


_ARCHITECTURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CS230, 1 convolution", {"name": "cs230"}),
    ("CS230, 3 convolutions", {"name": "cs230", "convs_per_stage": 3}),
    ("residual U-Net", {"name": "residual_unet"}),
    ("U-Net", {"name": "unet"}),
)


def receptive(cache: Cache, out: Path) -> list[Path]:
    """B10: diameters of the lesions in a slice beside what the deepest layers see."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6, 2.8))
    diameters = lesion_diameters(cache)
    bins = np.arange(0, 160, 4)
    weights = np.full(len(diameters), 100 / max(1, len(diameters)))
    axes.hist(diameters, bins=bins, weights=weights, color="0.75")
    top = float(axes.get_ylim()[1])
    for line, (colour, (name, spec)) in enumerate(zip(COLOURS, _ARCHITECTURES, strict=False)):
        with torch.device("meta"):
            size = encoder_receptive_field(build_network(spec)).size
        axes.axvline(size, color=colour)
        # Beside its line, each a little lower than the one before, so that none is crossed out.
        beside = {"ha": "left"} if size < 90 else {"ha": "right"}
        axes.text(
            size + (1.5 if size < 90 else -1.5), top * (0.97 - 0.1 * line), f"{name}: {size} mm",
            color=colour, fontsize=8, va="top", bbox={"fc": "white", "ec": "none", "pad": 0.5},
            **beside,
        )  # fmt: skip
    axes.set(
        xlabel="diameter of lesions in axial slices (grey), receptive field (lines), mm",
        ylabel="% of lesions",
        xlim=(0, 148),
    )
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
        axis.imshow(a[0, 0].numpy(), cmap="gray", origin="lower", vmin=0, vmax=1)
        if b.any():
            axis.contour(b[0, 0].numpy(), levels=[0.5], colors=[COLOURS[1]], linewidths=1)
        axis.set_title(f"{title}\n{a.shape[-1]} x {a.shape[-2]}", fontsize=8)
        axis.axis("off")
    return save(figure, out, "pipeline")
