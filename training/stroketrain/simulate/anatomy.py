"""The people whose heads carry the simulated strokes, brought to the MNI152 grid once and cached.

Real T1s (heads with skull, extracted brains, templates) and label maps, from which a T1 is painted
anew for every scan. A mask of the brain goes with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Volume,
    align_to_mni,
    apply_window,
    atomic_output,
    mni_brain_mask,
    read_scan,
    to_canonical,
    window_range,
)
from StrokeLesionSegLib.learning.strokes.fields import gaussian, noise_field, uniform
from torch import Generator, Tensor

# Mean T1 intensity (white matter .85) and standard deviation of each tissue class.
TISSUES: dict[str, tuple[float, float]] = {
    "air": (0.01, 0.01),
    "white": (0.85, 0.025),
    "grey": (0.56, 0.035),
    "thalamus": (0.68, 0.035),
    "striatum": (0.61, 0.03),
    "pallidum": (0.76, 0.03),
    "brainstem": (0.80, 0.03),
    "fluid": (0.14, 0.02),
    "choroid": (0.38, 0.05),
    "vessel": (0.35, 0.08),
    "soft": (0.55, 0.14),
    "skin": (0.62, 0.16),
    "skull": (0.12, 0.05),
    "marrow": (0.66, 0.16),
    "bone": (0.25, 0.08),
    "mucosa": (0.48, 0.1),
    "eye": (0.2, 0.03),
}
# FreeSurfer's colour table, and the extra-cerebral classes of the SynthSeg training maps.
CLASS_OF_CODE: dict[int, str] = {
    **dict.fromkeys((2, 41, 7, 46, 251, 252, 253, 254, 255), "white"),
    **dict.fromkeys((3, 42, 8, 47, 17, 53, 18, 54), "grey"),
    **dict.fromkeys((11, 50, 12, 51, 26, 58), "striatum"),
    **dict.fromkeys((10, 49), "thalamus"),
    **dict.fromkeys((13, 52), "pallidum"),
    **dict.fromkeys((16, 28, 60, 85), "brainstem"),
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 24, 72), "fluid"),
    **dict.fromkeys((31, 63, 136, 137, 163, 164), "choroid"),
    **dict.fromkeys((30, 62, 57, 25), "vessel"),
    **dict.fromkeys((502, 507, 530), "soft"),
    506: "eye",
    508: "bone",
    509: "mucosa",
    511: "skin",
    512: "brainstem",
    514: "marrow",
    515: "skull",
    516: "bone",
}
CLASSES = tuple(TISSUES)
BRAIN_CLASSES = frozenset(
    CLASSES.index(c)
    for c in ("white", "grey", "thalamus", "striatum", "pallidum", "brainstem", "choroid", "vessel")
)


@dataclass(frozen=True, eq=False)
class Person:
    """One person on the MNI152 grid.

    Attributes
    ----------
    person: the name that splits and file names use.
    kind: "head", "brain" (extracted) or "labels".
    image: (189, 233, 197) uint8; a T1 windowed to 0..255, or class indices for "labels".
    brain: (189, 233, 197) bool.
    """

    person: str
    kind: str
    image: np.ndarray
    brain: np.ndarray

    __repr__ = brief_repr

    def t1(self, g: Generator) -> Tensor:
        """The T1 as float32 in about [0, 1]; painted with fresh contrast for label maps."""
        if self.kind != "labels":
            return torch.from_numpy(self.image).to(g.device).float() / 255.0
        return paint(g, torch.from_numpy(self.image).to(g.device))


def paint(g: Generator, classes: Tensor) -> Tensor:
    """A T1 from class indices (K, J, I): mean and texture per class, partial volume at borders."""
    contrast = uniform(g, 0.75, 1.2)
    means, spreads = [], []
    for name in CLASSES:
        middle, spread = TISSUES[name]
        mean = 0.5 + (middle - 0.5) * contrast + uniform(g, -0.04, 0.04)
        means.append(max(0.0, mean if name != "air" else uniform(g, 0.0, 0.03)))
        spreads.append(spread * uniform(g, 0.6, 1.4))
    index = classes.long()
    level = torch.tensor(means, device=g.device)[index]
    deviation = torch.tensor(spreads, device=g.device)[index]
    shape = tuple(classes.shape)
    texture = 0.7 * noise_field(g, shape, 3.0) + 0.7 * noise_field(g, shape, 9.0)
    fine = torch.randn(shape, generator=g, device=g.device) * 0.5
    return gaussian(level + deviation * (texture + fine), uniform(g, 0.45, 0.7)).clamp_min(0)


def _biggest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == (np.bincount(labels.ravel())[1:].argmax() + 1)


def _brain_of_head(t1: np.ndarray) -> np.ndarray:
    """Brain of a head that lies on the MNI grid: bright enough, near the template's brain."""
    from scipy import ndimage

    template = mni_brain_mask().array > 0
    near = ndimage.binary_dilation(template, iterations=2)
    core = ndimage.binary_erosion(template, iterations=8)
    level = np.median(t1[core])
    bright = (t1 > 0.45 * level) & near
    opened = ndimage.binary_opening(bright, iterations=2) & near
    brain = ndimage.binary_dilation(_biggest(opened), iterations=1) & near
    brain = ndimage.binary_closing(np.pad(brain, 6), iterations=5)[6:-6, 6:-6, 6:-6]
    return ndimage.binary_fill_holes(brain | core)


def _class_image(labels: np.ndarray) -> np.ndarray:
    table = np.zeros(1024, np.uint8)
    for code, name in CLASS_OF_CODE.items():
        table[code] = CLASSES.index(name)
    known = set(CLASS_OF_CODE) | {0}
    for code in np.unique(labels):
        if int(code) not in known and code > 0:
            table[int(code)] = CLASSES.index("grey" if code < 500 else "soft")
    return table[labels.astype(np.int64)]


def load_anatomy(path: Path, kind: str) -> Person:
    """Read, align to MNI152 and resample one person.

    Raises ``InputError`` for an unreadable file and ``ValueError`` if the alignment fails: a person
    out of place would teach the network nonsense.
    """
    scan = read_scan(path)
    person = path.name.split(".")[0].removesuffix("_T1w").removesuffix("_T1w_brain")
    if kind == "labels":
        classes = _class_image(scan.volume.array)
        g = Generator().manual_seed(0)
        # The labels say where the brain is, so it alone is aligned: no neck can mislead it.
        only = np.where(np.isin(classes, list(BRAIN_CLASSES)), classes, 0)
        painted = paint(g, torch.from_numpy(only)).numpy() * (only > 0)
        alignment = align_to_mni(Volume(painted, scan.volume.affine))
        image = _nearest_on_mni(classes, scan.volume.affine, alignment.matrix)
        brain = np.isin(image, list(BRAIN_CLASSES)) & (image > 0)
        from scipy import ndimage

        brain = ndimage.binary_closing(np.pad(_biggest(brain), 4), iterations=3)[4:-4, 4:-4, 4:-4]
        brain = ndimage.binary_fill_holes(brain)
    else:
        alignment = align_to_mni(scan.volume)
        t1 = to_canonical(scan.volume, alignment).volume.array
        image = np.round(apply_window(t1, window_range(t1, 0.1, 99.9)) * 255).astype(np.uint8)
        if kind == "brain":
            from scipy import ndimage

            solid = ndimage.binary_opening(image > 8, iterations=1)
            brain = ndimage.binary_closing(np.pad(_biggest(solid), 6), iterations=5)
            brain = ndimage.binary_fill_holes(brain[6:-6, 6:-6, 6:-6])
        else:
            brain = _brain_of_head(image.astype(np.float32))
    if not alignment.ok:
        raise ValueError(f"{path.name}: alignment to MNI152 failed: {alignment.reason}")
    return Person(person, kind, image, brain)


def _nearest_on_mni(labels: np.ndarray, affine: np.ndarray, to_mni: np.ndarray) -> np.ndarray:
    """Label map (K, J, I) resampled with nearest neighbour onto the MNI grid."""
    from scipy import ndimage

    voxel = np.linalg.inv(to_mni @ affine) @ MNI_GRID.affine  # MNI (i, j, k) -> label (i, j, k)
    flip = np.eye(4)[[2, 1, 0, 3]]
    kji = flip @ voxel @ flip
    return ndimage.affine_transform(
        labels, kji[:3, :3], kji[:3, 3], output_shape=MNI_GRID.shape, order=0, mode="constant"
    )


def cached_anatomy(path: Path, kind: str, cache: Path) -> Person:
    """``load_anatomy``, kept in ``cache`` as a compressed .npz for the next run."""
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{kind}_{path.name.split('.')[0]}.npz"
    if kept.exists():
        with np.load(kept, allow_pickle=False) as data:
            brain = np.unpackbits(data["brain"], count=int(np.prod(MNI_GRID.shape)))
            return Person(
                str(data["person"]),
                kind,
                data["image"],
                brain.reshape(MNI_GRID.shape).astype(bool),
            )
    anatomy = load_anatomy(path, kind)
    with atomic_output(kept, overwrite=True) as temporary:
        np.savez_compressed(
            temporary,
            person=anatomy.person,
            image=anatomy.image,
            brain=np.packbits(anatomy.brain),
        )
    return anatomy


def template_anatomy() -> Person:
    """nilearn's bundled MNI152 2009a template (brain only), for machines without other data."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    t1 = np.asarray(load_mni152_template(resolution=1).dataobj, np.float32).transpose(2, 1, 0)
    brain = np.asarray(load_mni152_brain_mask(resolution=1).dataobj).transpose(2, 1, 0) > 0
    t1 = t1 * brain
    image = np.round(apply_window(t1, window_range(t1, 0.1, 99.9)) * 255).astype(np.uint8)
    return Person("nilearn_MNI152", "brain", image, brain)
