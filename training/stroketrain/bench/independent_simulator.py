"""A second way to draw strokes into heads, for testing only.

A model that was trained on ``stroketrain.simulate`` might know that simulator rather than strokes.
So part of the bench's lesions are made here, by other means and with no code of the simulator's
shapes, appearance or scanner: outlines are real masks under a B-spline warp, cut to their volume on
a signed distance map; intensities are carried over by optimal transport between histograms (a
cavity's towards the fluid of the same head's ventricles); the gliotic rim follows a distance
transform; edges are joined in the gradient domain (a Poisson equation in a thin band); old lesions
draw fluid spaces towards them; and the scanner has polynomial shading, a cut spectrum and its own
noise. NumPy, SciPy and SimpleITK only. No setting here was chosen by looking at a model's answers.

Arrays are (K, J, I) on the MNI152 grid, 1 mm, RAS axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from StrokeLesionSegLib.boxes import Box, bounding_box, widen
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.images import MNI_GRID

from .scanner import expose, warp_head

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS = ("cavity", "mixed", "faint")
# Volumes of native ATLAS lesions at 5, 50 and 95 percent, in mL (evaluation.md).
_LAW = (0.14, 4.3, 136.0)


@dataclass
class Drawn:
    """A head with its lesions: ``t1`` (189, 233, 197) float32 in about [0, 1], ``truth`` bool of
    the same shape, and what was drawn, JSON-ready."""

    t1: Array
    truth: Mask
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tissue:
    """What a head is made of.

    Attributes
    ----------
    local: (K, J, I) mean intensity of the brain around each voxel.
    classes: (K, J, I) uint8: 0 outside, 1 fluid, 2 grey, 3 white matter.
    fluid: sorted intensities of ventricular fluid as shares of ``local``.
    grey, white: sorted intensities of these, likewise.
    ventricles: (K, J, I) bool, fluid deep in the brain.
    depth: (K, J, I) distance to the outside of the brain in mm.
    """

    local: Array
    classes: NDArray[np.uint8]
    fluid: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    ventricles: Mask
    depth: Array

    __repr__ = brief_repr


def volume_ml(rng: np.random.Generator, low: float = 0.1, high: float = 180.0) -> float:
    """A lesion volume in mL: log-linear between the quantiles of ATLAS, cut to [low, high]."""
    knots = [low, *_LAW, high]
    at = [0.0, 0.05, 0.5, 0.95, 1.0]
    return float(np.exp(np.interp(rng.uniform(), at, np.log(knots))))


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Array:
    """White noise smoothed by ``sigma`` voxels, mean 0 and standard deviation 1."""
    # On a grid as coarse as the noise is smooth: the same field, many times faster.
    step = max(1.0, sigma / 1.5)
    small = [max(2, math.ceil(n / step) + 1) for n in shape]
    coarse = ndimage.gaussian_filter(
        rng.standard_normal(small).astype(np.float32), sigma / step, mode="wrap"
    )
    if step > 1:
        zoom = [(n + 1) / m for n, m in zip(shape, small, strict=True)]
        coarse = ndimage.zoom(coarse, zoom, order=1)
    out = coarse[tuple(slice(0, n) for n in shape)]
    return ((out - out.mean()) / max(float(out.std()), 1e-6)).astype(np.float32)


def _masked_mean(t1: Array, where: Mask, sigma: float) -> Array:
    """Mean of ``t1`` over ``where`` in a Gaussian neighbourhood, on a grid of 4 mm."""
    small = (slice(None, None, 4),) * 3
    weight = ndimage.gaussian_filter(where.astype(np.float32), 1.5)[small]
    total = ndimage.gaussian_filter(np.where(where, t1, 0), 1.5)[small]
    weight, total = (ndimage.gaussian_filter(x, sigma / 4) for x in (weight, total))
    coarse = total / np.maximum(weight, 1e-4)
    zoom = [n / m for n, m in zip(t1.shape, coarse.shape, strict=True)]
    return np.maximum(ndimage.zoom(coarse, zoom, order=1), 1e-3).astype(np.float32)


def tissue_of(t1: Array, brain: Mask) -> Tissue:
    """Three classes by Otsu's thresholds on the flattened brain, and the fluid of the ventricles.

    Raises ``ValueError`` if the brain holds less than 100 mL.
    """
    import SimpleITK as sitk

    if int(brain.sum()) < 100_000:
        raise ValueError("the brain is smaller than 100 mL")
    local = _masked_mean(t1, brain, 18.0)
    ratio = (t1 / local).astype(np.float32)
    inside = np.clip(ratio[brain], 0, 2.5)
    image = sitk.GetImageFromArray(inside[None, None, : len(inside) // 8 * 8])
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.Execute(image)
    low, high = otsu.GetThresholds()
    classes = np.where(brain, 1 + (ratio > low).astype(np.uint8) + (ratio > high), 0)
    depth = ndimage.distance_transform_edt(brain[::2, ::2, ::2], sampling=2.0)
    zoom = [n / m for n, m in zip(t1.shape, depth.shape, strict=True)]
    depth = ndimage.zoom(depth.astype(np.float32), zoom, order=1)
    ventricles = ndimage.binary_opening((classes == 1) & (depth > 14))
    core = ndimage.binary_erosion(ventricles)
    pool = ratio[core]
    if len(pool) < 200:
        # Slit ventricles or thick slices: the darkest of what lies deep is fluid as well.
        deep = ratio[brain & (depth > 8)]
        pool = deep[deep <= np.quantile(deep, 0.01)]
    grey, white = (ratio[(classes == c) & (depth > 4)][::7] for c in (2, 3))
    return Tissue(
        local,
        classes.astype(np.uint8),
        np.sort(pool),
        np.sort(grey),
        np.sort(white),
        ventricles,
        depth,
    )


# ------------------------------------------------------------------------------- outlines


def small_outline(rng: np.random.Generator, centre: NDArray[np.float64], ml: float) -> Mask:
    """The ``ml`` highest voxels of smooth noise under a hill at ``centre``: a lacune."""
    radius = (3000 * ml / (4 * math.pi)) ** (1 / 3)
    reach = int(3 * radius) + 4
    low = np.maximum(0, centre.astype(int) - reach)
    high = np.minimum(MNI_GRID.shape, centre.astype(int) + reach + 1)
    axes = np.meshgrid(
        *(np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True)), indexing="ij"
    )
    stretch = np.exp(rng.normal(0, 0.25, 3))
    hill = -np.sqrt(sum((x / s) ** 2 for x, s in zip(axes, stretch, strict=True))) / radius
    hill = hill + 0.35 * smooth_noise(rng, hill.shape, max(1.0, 0.6 * radius))
    count = min(hill.size, max(1, round(ml * 1000)))
    chosen = hill >= np.partition(hill.ravel(), -count)[-count]
    labels, _ = ndimage.label(chosen)
    biggest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    out = np.zeros(MNI_GRID.shape, bool)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = biggest
    return out


def _real_outline(rng: np.random.Generator, file: Path, ml: float) -> Mask:
    """A real mask on the MNI grid: perhaps mirrored, turned, resized and bent by B-splines, then
    cut to ``ml`` on its signed distance map."""
    import SimpleITK as sitk

    mask = sitk.ReadImage(str(file)) > 0
    distance = sitk.SignedMaurerDistanceMap(mask, False, False, True)
    where = sitk.GetArrayViewFromImage(mask)
    filled = np.argwhere(where).mean(axis=0)[::-1]
    own_ml = float(np.count_nonzero(where)) * float(np.prod(mask.GetSpacing())) / 1000
    # Linear sizes of .45 to 1.35; beyond that an outline has too little or too much detail.
    scale = min(max((ml / own_ml) ** (1 / 3), 0.45), 1.35)
    centre = np.array(mask.TransformContinuousIndexToPhysicalPoint(filled.tolist()))
    mirror = rng.uniform() < 0.5
    similarity = sitk.AffineTransform(3)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*(float(a) for a in rng.normal(0, math.radians(8), 3)))
    matrix = np.array(turn.GetMatrix()).reshape(3, 3) / scale
    flip = np.diag([-1.0 if mirror else 1.0, 1.0, 1.0])  # physical x is the patient's left-right
    similarity.SetMatrix((matrix @ flip).ravel().tolist())
    target = flip @ centre
    # Where the point ``target`` of the result comes from: the mask's own centre.
    similarity.SetTranslation((centre - (matrix @ flip) @ target).tolist())

    reference = _mni_reference(8.0)
    spline = sitk.BSplineTransformInitializer(reference, [7, 7, 7], 3)
    count = len(spline.GetParameters())
    spline.SetParameters(rng.normal(0, 3.5 * min(1.0, scale), count).tolist())
    bend = sitk.TransformToDisplacementField(
        spline, sitk.sitkVectorFloat64, reference.GetSize(), reference.GetOrigin(),
        reference.GetSpacing(), reference.GetDirection(),
    )  # fmt: skip
    both = sitk.CompositeTransform([similarity, sitk.DisplacementFieldTransform(bend)])
    coarse = sitk.Resample(
        sitk.Cast(distance, sitk.sitkFloat32), _mni_reference(2.0), both, sitk.sitkLinear, 1e3
    )
    # A distance map is smooth, so 2 mm are enough; corner voxels of both grids coincide.
    values = sitk.GetArrayFromImage(coarse)
    fine = ndimage.zoom(values, [(2 * n - 1) / n for n in values.shape], order=1)
    k, j, i = MNI_GRID.shape
    field_ = fine[:k, :j, :i]
    wanted = round(ml * 1000)
    near = field_[field_ < 12]
    # The level whose inside has the wanted volume, never further out than a few millimetres.
    level = np.partition(near, wanted)[wanted] if wanted < len(near) else 4.0
    return field_ < float(np.clip(level, -8.0, 4.0))


def _mni_reference(step: float) -> Any:
    """An empty SimpleITK image over the MNI grid with ``step`` mm voxels (LPS coordinates)."""
    import SimpleITK as sitk

    k, j, i = MNI_GRID.shape
    size = [math.ceil((n - 1) / step) + 1 for n in (i, j, k)]
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing([step] * 3)
    x, y, z = MNI_GRID.affine[:3, 3]
    # ITK's physical space is LPS: RAS axes point the other way in x and y.
    image.SetOrigin([-float(x), -float(y), float(z)])
    image.SetDirection([-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0])
    return image


def outline(
    rng: np.random.Generator, masks: Sequence[Path], tissue: Tissue, brain: Mask, ml: float
) -> tuple[Mask, str]:
    """A lesion's outline of about ``ml`` mL within the brain, and where it comes from.

    Small ones are lacunes half of the time; the others are real masks, in the place where they
    were drawn or in its mirror image.
    """
    usable = brain & ~ndimage.binary_dilation(tissue.ventricles)
    if not masks or (ml < 1.0 and rng.uniform() < 0.5):
        deep = np.argwhere(usable & (tissue.depth > 10) & (tissue.classes > 1))
        chosen = deep[rng.integers(len(deep))].astype(float)
        return small_outline(rng, chosen, ml) & usable, "lacune"
    best: tuple[Mask, str] | None = None
    for _ in range(5):
        file = masks[int(rng.integers(len(masks)))]
        shape = _real_outline(rng, file, ml) & usable
        found = float(shape.sum()) / 1000
        if best is None or abs(math.log((found + 0.01) / ml)) < abs(
            math.log((float(best[0].sum()) / 1000 + 0.01) / ml)
        ):
            best = shape, file.name.split(".")[0]
        if 0.5 < found / ml < 1.6:
            break
    assert best is not None
    return best


# ----------------------------------------------------------------------------- intensities


def transport(values: Array, towards: NDArray[np.float32], rank: Array) -> Array:
    """Optimal transport onto the distribution ``towards`` (sorted): equal ranks meet.

    ``rank`` is anything that orders the voxels; ``values`` gives only the shape.
    """
    order = np.argsort(np.argsort(rank.ravel(), kind="stable"), kind="stable")
    level = (order + 0.5) / max(1, order.size)
    at = (np.arange(len(towards)) + 0.5) / len(towards)
    return np.interp(level, at, towards).reshape(values.shape).astype(np.float32)


def poisson_blend(inner: Array, outer: Array, band: Mask, keep: float, steps: int = 50) -> Array:
    """Join ``inner`` and ``outer`` across ``band``: there the Poisson equation is solved whose
    guidance is ``keep`` times the gradient of ``outer``, with what lies beside as boundary."""
    u = inner.copy()
    u[band] = 0.5 * (inner[band] + outer[band])
    source = keep * ndimage.laplace(outer)
    for _ in range(steps):
        mean = np.zeros_like(u)
        for axis in range(3):
            mean += np.roll(u, 1, axis) + np.roll(u, -1, axis)
        u[band] = ((mean - source) / 6)[band]
    return u


def _around(mask: Mask, margin: int) -> Box:
    """The box of the true voxels, of which there is one at least, and ``margin`` around."""
    box = bounding_box(mask)
    assert box is not None
    return widen(box, margin, mask.shape)


def implant(
    rng: np.random.Generator, t1: Array, brain: Mask, shape: Mask, tissue: Tissue, kind: str
) -> Array:
    """``t1`` with a lesion of outline ``shape``; "cavity", "mixed" or "faint"."""
    box = _around(shape, 9)
    t, local, m = t1[box], tissue.local[box], shape[box]
    head = brain[box]
    inside = ndimage.distance_transform_edt(m).astype(np.float32)
    outside = ndimage.distance_transform_edt(~m).astype(np.float32)
    ratio = t / local
    slow = smooth_noise(rng, m.shape, rng.uniform(4, 9))
    fine = smooth_noise(rng, m.shape, rng.uniform(0.8, 1.6))

    # Gliosis everywhere: grey and white are carried part of the way to a darker tissue.
    strength = rng.uniform(0.35, 0.8) if kind != "faint" else rng.uniform(0.3, 0.75)
    scar = tissue.grey * rng.uniform(0.72, 0.92)
    texture = ratio + 0.5 * float(ratio[m].std()) * fine
    glial = ratio.copy()
    glial[m] = transport(ratio[m], scar, texture[m])
    glial = np.minimum(glial, ratio * 1.02)
    fade = rng.uniform(0.8, 2.2)
    reach = np.where(m, 1.0, np.exp(-outside / fade) * (outside < 5))
    if kind == "faint":
        # No sharp outline: the change comes up over several millimetres.
        reach = special.expit((inside - outside - 0.5) / rng.uniform(0.5, 1.2))
    amount = np.clip(strength * (1 + 0.25 * slow), 0.1, 1.0) * reach
    level = np.where(m, glial, np.minimum(ratio, float(np.median(scar))))
    out = ratio + amount * (level - ratio)

    if kind != "faint":
        rim = rng.uniform(0.6, 2.6) * np.exp(0.35 * slow)
        core = inside > rim
        if kind == "mixed":
            patches = smooth_noise(rng, m.shape, rng.uniform(3, 8))
            core &= patches > rng.uniform(-0.2, 0.8)
        if not core.any() and kind == "cavity":
            core = inside >= np.quantile(inside[m], 0.4)
        core &= m
        if core.any():
            wet = out.copy()
            rank = 0.4 * ratio / max(float(ratio[m].std()), 1e-3) + 0.6 * slow + 0.8 * fine
            wet[core] = transport(ratio[core], tissue.fluid, rank[core])
            wet[core] *= rng.uniform(0.9, 1.25)
            edge = ndimage.binary_dilation(core) & ~ndimage.binary_erosion(core) & head
            out = poisson_blend(wet, out, edge, rng.uniform(0.1, 0.5))
    # The outer border is joined in the gradient domain as well, but never where the head ends.
    band = (inside <= 1) & (outside <= 1) & head
    out = poisson_blend(out, ratio, band, rng.uniform(0.3, 0.8), 25)
    result = t1.copy()
    result[box] = np.where(head, np.maximum(out, 0) * local, t)
    return result


def draw_fluid_near(
    rng: np.random.Generator, t1: Array, brain: Mask, shape: Mask, tissue: Tissue
) -> Array:
    """Ventricle and sulci beside an old lesion widen: fluid grows by a voxel or two there."""
    small = shape[::2, ::2, ::2]
    near = np.exp(-ndimage.distance_transform_edt(~small, sampling=2.0) / rng.uniform(9, 18))
    zoom = [n / m for n, m in zip(t1.shape, near.shape, strict=True)]
    weight = ndimage.zoom(near.astype(np.float32), zoom, order=1) * brain
    wide = ndimage.grey_erosion(t1, footprint=ndimage.generate_binary_structure(3, 1))
    if rng.uniform() < 0.5:
        wide = ndimage.grey_erosion(wide, footprint=ndimage.generate_binary_structure(3, 1))
    fluid = ndimage.binary_dilation(tissue.classes == 1, iterations=2)
    gain = np.clip(rng.uniform(0.6, 1.1) * weight, 0, 1) * fluid
    return t1 + gain * (np.where(brain, wide, t1) - t1)


def mimics(
    rng: np.random.Generator, t1: Array, brain: Mask, tissue: Tissue
) -> tuple[Array, list[str]]:
    """What looks like a lesion and is none: caps and halos around the ventricles, ovoid plaques,
    enlarged fluid spaces, perivascular spaces."""
    done: list[str] = []
    ratio = t1 / tissue.local
    white = tissue.classes == 3
    if rng.uniform() < 0.35 and tissue.ventricles.any():
        done.append("enlarged ventricles")
        wide = ndimage.grey_erosion(ratio, size=(3, 3, 3))
        deep = np.clip((tissue.depth - 12) / 6, 0, 1) * brain
        ratio = ratio + deep * rng.uniform(0.5, 1.0) * (wide - ratio)
    if rng.uniform() < 0.45 and tissue.ventricles.any():
        done.append("periventricular halo")
        away = ndimage.distance_transform_edt(~tissue.ventricles)
        halo = np.exp(-away / rng.uniform(1.5, 3.5)) * white
        darker = np.minimum(ratio, float(np.median(tissue.grey)))
        ratio = ratio + rng.uniform(0.3, 0.8) * halo * (darker - ratio)
    if rng.uniform() < 0.45:
        done.append("plaques")
        places = np.argwhere(white & (tissue.depth > 10))
        for _ in range(int(rng.integers(2, 12))):
            centre = places[rng.integers(len(places))].astype(float)
            spot = small_outline(rng, centre, float(np.exp(rng.uniform(-4.6, -2.2))))
            soft = ndimage.gaussian_filter(spot[box := _around(spot, 4)].astype(np.float32), 0.7)
            target = rng.uniform(0.85, 1.05) * float(np.median(tissue.grey))
            darker = np.minimum(ratio[box], target)
            ratio[box] += soft * white[box] * rng.uniform(0.5, 1.0) * (darker - ratio[box])
    if rng.uniform() < 0.4:
        done.append("perivascular spaces")
        places = np.argwhere((tissue.depth > 12) & (tissue.classes > 1))
        wet = float(np.median(tissue.fluid))
        for _ in range(int(rng.integers(4, 20))):
            k, j, i = places[rng.integers(len(places))]
            along = int(rng.integers(2, 7))
            tube = (slice(k, k + along), slice(j, j + 1), slice(i, i + int(rng.integers(1, 3))))
            ratio[tube] += rng.uniform(0.3, 0.7) * np.minimum(0, wet - ratio[tube])
    return (np.maximum(ratio, 0) * tissue.local).astype(np.float32), done


def draw(
    rng: np.random.Generator,
    head: Array,
    brain: Mask,
    masks: Sequence[Path],
    *,
    kind: str,
    strip: bool = False,
) -> Drawn:
    """One test scan on the MNI152 grid.

    Parameters
    ----------
    rng: source of all randomness.
    head: (189, 233, 197) float32 T1 in about [0, 1]; brain: bool of the same shape.
    masks: files of real lesion masks in MNI or Colin27 space.
    kind: "cavity", "mixed", "faint" or "healthy".
    strip: take the skull off.

    Raises ``ValueError`` for another kind, or a head without a brain.
    """
    if kind not in (*KINDS, "healthy"):
        raise ValueError(f"no such kind {kind!r}")
    t1, brain = warp_head(rng, head, brain)
    tissue = tissue_of(t1, brain)
    t1, look_alikes = mimics(rng, t1, brain, tissue)
    truth = np.zeros(brain.shape, bool)
    lesions: list[dict[str, Any]] = []
    if kind != "healthy":
        largest = volume_ml(rng)
        sizes = [largest]
        if rng.uniform() < 0.4:
            extra = int(rng.integers(1, 5))
            sizes += [max(0.1, largest * float(rng.uniform(0.03, 0.6))) for _ in range(extra)]
        for ml in sizes:
            shape, source = outline(rng, masks, tissue, brain, ml)
            if shape.sum() < 40:
                continue
            t1 = implant(rng, t1, brain, shape, tissue, kind)
            if kind != "faint" and shape.sum() > 12_000 and rng.uniform() < 0.8:
                t1 = np.where(truth | shape, t1, draw_fluid_near(rng, t1, brain, shape, tissue))
            truth |= shape
            lesions.append({"kind": kind, "shape": source, "volume_ml": float(shape.sum()) / 1000})
    t1, done = expose(rng, t1.astype(np.float32), brain, strip=strip)
    record = {
        "kind": kind if truth.any() else "healthy",
        "lesions": lesions,
        "mimics": look_alikes,
        "acquisition": done,
        "volume_ml": round(float(truth.sum()) / 1000, 3),
    }
    return Drawn(t1, truth, record)
