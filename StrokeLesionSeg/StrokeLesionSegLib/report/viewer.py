"""The interactive viewer of a scan's page: NiiVue with the brain and the lesions in the page.

What is embedded shows nobody's face: grey values are kept within the brain and 5 mm around it, and
a scan whose brain is not known, because it was not aligned, gets no viewer.
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box
from ..images.formats.writing import nifti_header
from ..images.space.distance import squared_distance
from ..images.volume import Volume
from .content import RADIOLOGICAL, ReportContent, ViewerImages
from .page import Inline, Markup, Shared, element, paragraph, resource_text
from .pictures import crop_box

#: Grey values are kept so far around the brain, mm.
AROUND_BRAIN_MM = 5.0
#: Most that a page embeds, as text, bytes.
MOST_BYTES = 2_000_000
#: NiiVue, as published.
NIIVUE, LICENSES = "niivue.umd.js", "niivue-LICENSES.txt"
# Grey levels and voxel size in mm, tried in turn until the page is small enough.
_STEPS = ((256, 1.0), (128, 1.0), (64, 1.0), (64, 1.25), (64, 1.5), (64, 2.0), (32, 3.0))


def viewer_images(
    t1: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    brain: NDArray[np.bool_] | None,
    affine: NDArray[np.float64],
) -> ViewerImages | None:
    """What the viewer shows, as NIfTI files; None if the brain is not known.

    Parameters
    ----------
    t1: (K, J, I), windowed, 0 to 255. labels: (K, J, I), 0 outside of lesions.
    brain: (K, J, I). affine: 4x4, (i, j, k, 1) to RAS mm, diagonal and positive.

    Both files together take at most ``MOST_BYTES`` as base64: the T1 gets fewer grey levels and
    then larger voxels if need be.
    """
    if brain is None or not brain.any():
        return None
    steps = np.diag(affine)[:3]
    reach = int(np.ceil(AROUND_BRAIN_MM / steps.min()))
    box = crop_box(brain, reach)
    near = squared_distance(brain[box], AROUND_BRAIN_MM, steps[::-1]) <= AROUND_BRAIN_MM**2
    shown = np.where(near, t1[box], 0).astype(np.uint8)
    # Their numbers are told where the crosshair is.
    kind = np.uint8 if int(labels.max(initial=0)) < 256 else np.uint16
    origin = _moved(affine, box)
    lesions = _nifti(Volume(labels[box].astype(kind), origin))
    left = MOST_BYTES - 4 * len(lesions) // 3
    for levels, size in _STEPS:
        packed = _nifti(_coarser(Volume(_rounded(shown, levels), origin), near, size))
        if 4 * len(packed) // 3 <= left:
            return ViewerImages(packed, lesions)
    return None


def _moved(affine: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """The affine of the part ``box`` (k, j, i) of a grid."""
    moved = np.array(affine)
    moved[:3, 3] += affine[:3, :3] @ [box[2].start, box[1].start, box[0].start]
    return moved


def _rounded(array: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    step = 256 // levels
    return (array // step * step).astype(np.uint8)


def _coarser(volume: Volume, near: NDArray[np.bool_], size: float) -> Volume:
    """The volume with voxels of ``size`` mm, unless they are so large already.

    Voxels that reach out of ``near`` are empty.
    """
    from scipy import ndimage

    steps = np.diag(volume.affine)[:3]
    factors = np.minimum(steps / size, 1.0)[::-1]
    if (factors > 0.99).all():
        return volume
    array, inside = (
        ndimage.zoom(part, factors, order=1, grid_mode=True, mode="nearest")
        for part in (volume.array, near.astype(np.float32))
    )
    array[inside < 0.999] = 0
    # What zoom makes of rounded sizes.
    real = (np.array(volume.array.shape) / np.array(array.shape))[::-1]
    affine = np.array(volume.affine)
    affine[:3, :3] = np.diag(steps * real)
    affine[:3, 3] += steps * (real - 1) / 2
    return Volume(array, affine)


def _nifti(volume: Volume) -> bytes:
    array = np.ascontiguousarray(volume.array)
    head = nifti_header(volume, array.dtype, None, version=1).tobytes() + b"\0\0\0\0"
    # Level 9 saves half a per cent of it, in three times the time.
    return gzip.compress(head + array.tobytes(), 6, mtime=0)


def viewer_section(content: ReportContent) -> Markup | None:
    """The viewer with its controls, hidden until its script finds that it can work."""
    if content.viewer is None:
        return None
    slider = element(
        "label",
        "Lesion colour ",
        element("input", type="range", id="viewer-opacity", min=0, max=100, value=50),
    )
    views = [
        element("button", name, type="button", data_view=value)
        for name, value in (
            ("Three planes", "all"),
            ("Axial", "axial"),
            ("Coronal", "coronal"),
            ("Sagittal", "sagittal"),
        )
    ]
    kept = [lesion for lesion in content.lesions if lesion.keep]
    jumps = [
        element("button", f"Lesion {lesion.label}", type="button", data_lesion=lesion.label)
        for lesion in kept[:12]
    ]
    side = "right" if content.convention == RADIOLOGICAL else "left"
    note = (
        "Click or drag moves the crosshair, the wheel scrolls through slices, a drag with the "
        "right button changes the contrast; the keys H, J, K and L move the crosshair, once the "
        f"picture has the focus. The patient's left is on the {side}. The viewer "
        f"holds the brain and {AROUND_BRAIN_MM:g} mm around it only."
    )
    return element(
        "section",
        element("h2", "Viewer"),
        element("p", id="viewer-note", class_="lead", hidden=True),
        element(
            "div",
            element("div", *views, slider, class_="controls"),
            element("div", *jumps, class_="controls") if jumps else None,
            element(
                "div",
                element("canvas", id="viewer-canvas", aria_label="The scan in three planes"),
                class_="stage",
            ),
            element("p", id="viewer-place", class_="place", aria_live="polite"),
            paragraph(note, class_="lead"),
            id="viewer-parts",
            hidden=True,
        ),
        id="viewer",
        class_="screen",
        hidden=True,
    )


def viewer_scripts(content: ReportContent) -> list[Inline | Shared]:
    """The scripts of the viewer: NiiVue within the page, or beside it if it is one of a study."""
    if content.viewer is None:
        return []
    scripts: list[Inline | Shared] = []
    if content.study is None:
        scripts.append(Inline("niivue", _niivue_packed(), "application/gzip"))
        scripts.append(Inline("niivue-licenses", resource_text(LICENSES), "text/plain"))
    else:
        scripts.append(Shared(content.study.shared + NIIVUE))
    data = {
        "t1": base64.b64encode(content.viewer.t1).decode("ascii"),
        "lesions": base64.b64encode(content.viewer.lesions).decode("ascii"),
        "radiological": content.convention == RADIOLOGICAL,
        "names": list("xyz" if content.space == "MNI152" else "RAS"),
        "centres": {str(k): [round(x, 2) for x in v] for k, v in content.centres_mm.items()},
    }
    scripts.append(Inline("viewer-data", json.dumps(data), "application/json"))
    scripts.append(Inline(None, resource_text("viewer.js")))
    return scripts


def allowed_scripts(content: ReportContent) -> list[str]:
    """Scripts that the page makes itself, to be named in its policy: NiiVue once it is unpacked."""
    if content.viewer is None or content.study is not None:
        return []
    return [resource_text(NIIVUE)]


@functools.lru_cache(maxsize=1)
def _niivue_packed() -> str:
    """NiiVue as base64 of gzip: a third of its size."""
    packed = gzip.compress(resource_text(NIIVUE).encode("utf-8"), 9, mtime=0)
    return base64.b64encode(packed).decode("ascii")
