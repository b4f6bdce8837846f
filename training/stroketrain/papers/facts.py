"""Rows that are measured on the data and the networks, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.networks import (
    build_network,
    count_macs,
    count_parameters,
    encoder_receptive_field,
)

from ..data.cache import Cache
from ..data.splits import PARTS, WAYS, make_split
from ..data.statistics import lesion_diameters, lesion_per_slice
from .planes import STACK, Frame


def data_found(cache: Cache) -> list[str]:
    """A1: what the tree held."""
    sites = sorted({str(s["site"]) for s in cache.scans})
    subjects = len({s["subject"] for s in cache.scans})
    free = sum(s["volume_ml"] == 0 for s in cache.scans)
    simulated = sum("simulation" in s for s in cache.scans)
    return [
        f"{counted(len(cache), 'labelled scan')} of {counted(subjects, 'subject')} from "
        f"{counted(len(sites), 'site')}, {free} lesion-free, {simulated} "
        f"simulated; {cache.unlabelled} without a mask, for prediction"
    ]


def split_sizes(cache: Cache) -> list[str]:
    """A3: scans and subjects on each side, for every way to split."""
    subject = {s["name"]: s["subject"] for s in cache.scans}
    lines = []
    for by in WAYS:
        split = make_split(cache.scans, by, seed=0)
        sides = [{subject[name] for name in split.parts[part]} for part in PARTS]
        shared = len(sides[0] & sides[2])
        counts = " / ".join(str(len(side)) for side in sides)
        lines.append(f"{by}: {counts} subjects, {shared} of them both in training and in test")
    return lines


def lesion_share(cache: Cache) -> list[str]:
    """A4: the share of all lesion voxels within the paper's slices, in both readings."""
    profile = lesion_per_slice(cache)
    total = max(1, int(profile.sum()))
    spans = {
        "100 central slices 44-143": STACK,
        "window 70-89 as voxel z": (70, 90),
        "window 70-89 within the stack": (STACK[0] + 70, STACK[0] + 90),
    }
    return [f"{name}: {profile[a:b].sum() / total:.0%} of lesion" for name, (a, b) in spans.items()]


def frame_round_trip(cache: Cache) -> list[str]:
    """A6: padded to what the network takes and back, voxel by voxel."""
    frame = Frame("pad", 16)
    x = torch.from_numpy(np.array(cache.images[0, 70:90]))[:, None].float()
    there = frame.put(x)
    same = torch.equal(frame.take(there, *x.shape[-2:]), x)
    h, w = there.shape[-2:]
    return [f"197 x 233 padded to {w} x {h} and back: {'identical' if same else 'NOT identical'}"]


def _sizes(specs: dict[str, dict[str, Any]], size: tuple[int, ...]) -> list[str]:
    lines = []
    for name, spec in specs.items():
        with torch.device("meta"):
            network = build_network(spec)
            macs = count_macs(network, size)
        lines.append(f"{name}: {count_parameters(network):,} parameters, {macs / 1e9:.1f} GMAC")
    return lines


def unet_sizes(cache: Cache) -> list[str]:
    """A7 to A9."""
    specs = {
        "U-Net": {"name": "unet"},
        "residual, skip=block_input": {"name": "residual_unet", "skip": "block_input"},
        "residual, skip=stem": {"name": "residual_unet", "skip": "stem"},
    }
    return _sizes(specs, (1, 1, 240, 208))


def cs230_size(cache: Cache) -> list[str]:
    """B2."""
    return _sizes({"CS230": {"name": "cs230"}}, (1, 1, 232, 196))


def overlap(cache: Cache) -> list[str]:
    """B1: the mean mask's peak."""
    mean = np.zeros(cache.masks.shape[1:], np.float32)
    for mask in cache.masks:
        mean += mask
    peak = np.unravel_index(int(mean.argmax()), mean.shape)
    side = "left" if peak[2] < mean.shape[2] / 2 else "right"
    return [
        f"most lesioned voxel: {mean.max() / len(cache):.0%} of the scans, {side} hemisphere, "
        f"{np.count_nonzero(mean) / 1000:.0f} mL touched by any lesion"
    ]


def receptive_fields(cache: Cache) -> list[str]:
    """B10: what the deepest layer sees beside what it should see."""
    lines = []
    for name, spec in (
        ("CS230, 1 convolution per stage", {"name": "cs230"}),
        ("CS230, 3 convolutions per stage", {"name": "cs230", "convs_per_stage": 3}),
        ("U-Net", {"name": "unet"}),
        ("residual U-Net", {"name": "residual_unet", "skip": "stem"}),
    ):
        with torch.device("meta"):
            lines.append(f"{name}: {encoder_receptive_field(build_network(spec)).size} mm")
    diameters = lesion_diameters(cache)
    if len(diameters):
        q = np.percentile(diameters, [25, 50, 75, 95])
        lines.append(
            "lesion diameter in a slice, quartiles and 95 %: "
            + ", ".join(f"{v:.0f}" for v in q)
            + " mm"
        )
    return lines


def other_channels(cache: Cache) -> list[str]:
    """A15: a network of two contrasts and three labels, and where a model says so."""
    spec = {"name": "residual_unet", "in_channels": 2, "out_channels": 3, "filters": [4, 8, 16]}
    shape = tuple(build_network(spec)(torch.zeros(2, 2, 32, 32)).shape)
    return [
        f"two contrasts in, three labels out: {shape}; channels, labels and contrast are fields "
        "of manifest.json, which the engine reads"
    ]


def _drawn(name: str, cache: Cache) -> list[str]:
    import tempfile
    from pathlib import Path

    from PIL import Image

    from ..figures import of_data

    with tempfile.TemporaryDirectory() as folder:
        png, svg = getattr(of_data, name)(cache, Path(folder))
        with Image.open(png) as image:
            size = f"{image.width} x {image.height}"
        return [f"{png.name} ({size} pixels) and {svg.name} were drawn"]


def sample_figure(cache: Cache) -> list[str]:
    """A2: draws it, to know that it can be drawn from this data."""
    return _drawn("sample", cache)


def pipeline_figure(cache: Cache) -> list[str]:
    """A14: the pipeline; curves, panel and bars are drawn from runs."""
    return _drawn("pipeline", cache)


FACTS: dict[str, Callable[[Cache], list[str]]] = {
    f.__name__: f
    for f in (
        data_found,
        split_sizes,
        lesion_share,
        frame_round_trip,
        unet_sizes,
        cs230_size,
        overlap,
        receptive_fields,
        other_channels,
        sample_figure,
        pipeline_figure,
    )
}
