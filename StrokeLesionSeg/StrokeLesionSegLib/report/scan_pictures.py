"""The pictures on the page of one scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box
from ..lesions.measure import BOTH, Lesion
from .content import RADIOLOGICAL, ReportContent
from .page import Markup, element, figure, joined, paragraph, section
from .pictures import AXIAL, CORONAL, SAGITTAL, Cell, Views, crop_box, legend, sheet

MOSAIC_CELLS, MOSAIC_COLUMNS = 24, 6
UNCERTAINTY_CELLS, UNCERTAINTY_COLUMNS = 8, 4
#: Lesions that get their own views; each costs the page about 60 kB.
MOST_VIEWS, MOST_SIDES = 12, 3
#: Below this standard deviation nothing is drawn, at the top of the scale is 0.5, the largest.
UNCERTAINTY_FROM, UNCERTAINTY_TO = 0.1, 0.5
# Grey value (of 255) above which a voxel is taken for head when there is no brain mask.
_HEAD_ABOVE = 30
# From the top of a head down to below the cerebellum.
_BRAIN_HEIGHT_MM = 165.0
_MIRRORED = {"i": "left to right", "j": "front to back", "k": "top to bottom"}
_AXIS_NAMES = {AXIAL: "axial", CORONAL: "coronal", SAGITTAL: "sagittal"}


def convention_note(convention: str) -> str:
    """How left and right are shown, as a sentence."""
    if convention == RADIOLOGICAL:
        return "Radiological convention: the patient's left (L) is on the right of the picture."
    return "Neurological convention: the patient's left (L) is on the left of the picture."


def mosaic_figure(content: ReportContent) -> Markup:
    """Axial slices through the brain with the outlines of the lesions."""
    views = _views(content)
    even = _even(views.box[0], MOSAIC_CELLS)
    indices = mosaic_indices(content)
    cells = [_axial(content, views, index) for index in indices]
    step = float(content.affine[2, 2]) * (even[1] - even[0] if len(even) > 1 else 1)
    outline = "Lesions are outlined. " if content.lesions else ""
    if content.correction is not None and content.correction.automatic.any():
        outline += "Dotted: the automatic mask. "
    between = ", with others where a lesion lies between or beyond" * (len(indices) > len(even))
    caption = (
        f"Axial slices, {step:.0f} mm apart{between}, from below upwards. {outline}"
        f"{convention_note(content.convention)} {_height_note(content)}"
    )
    described = (
        f"Mosaic of {len(cells)} axial slices of the scan with "
        f"{_count(content.summary.count)} outlined"
    )
    picture = sheet(cells, MOSAIC_COLUMNS, described)
    return section("Overview", figure(picture, caption), class_="overview keep")


def mosaic_indices(content: ReportContent) -> list[int]:
    """The axial slices of the overview: evenly spread, and others so that each lesion has one."""
    even = _even(_views(content).box[0], MOSAIC_CELLS)
    return sorted({*even, *_missed(content, even)})


def lesion_figures(content: ReportContent) -> Markup | None:
    """Three planes through the centre of each lesion."""
    lesions = _kept(content)
    if not lesions:
        return None
    views = _views(content)
    figures = []
    for lesion in lesions[:MOST_VIEWS]:
        centre = content.centres_mm[lesion.label]
        kji = content.index_kji(centre)
        cells = [_through(content, views, axis, kji, lesion) for axis in range(3)]
        title = f"Lesion {lesion.label}: {round(lesion.volume_ml, 6):.2f} mL, {_side(lesion)}"
        picture = sheet(
            cells,
            3,
            f"{title}. Axial, coronal and sagittal plane through its centre of mass",
            shown=480,
        )
        figures.append(figure(picture, title, class_="ortho"))
    note = (
        "Planes through the centre of mass of each lesion, marked by the crosshair; it may lie "
        "beside a curved lesion. Thin lines outline other lesions."
    )
    if len(lesions) > MOST_VIEWS:
        note += f" Only the {MOST_VIEWS} largest of {len(lesions)} lesions are shown."
    return _pairs("Each lesion in three planes", note, figures)


def uncertainty_figure(content: ReportContent) -> Markup | None:
    """Where the answer might have been another one."""
    if content.uncertainty is None:
        return None
    if len(content.passes) > 1:
        meaning = (
            f"Standard deviation of the probability over {len(content.passes)} passes "
            f"({'; '.join(map(_pass_in_words, content.passes))})."
        )
    elif not content.passes:
        meaning = "Standard deviation of the probability, at most 0.5."
    else:
        meaning = (
            "One pass was made, so nothing could be compared: shown is the standard deviation "
            "of a yes-or-no answer, the square root of p (1 - p), highest where the probability "
            "p is one half. Flipped copies or slices of three views would be several passes."
        )
    views = _views(content)
    inside = np.zeros(content.uncertainty.shape, dtype=bool)
    inside[views.box] = content.uncertainty[views.box] > UNCERTAINTY_FROM
    heights = np.flatnonzero(inside.any(axis=(1, 2)))
    if not heights.size:
        nothing = f"It is nowhere above {UNCERTAINTY_FROM:g}, so no picture is shown."
        return section("Uncertainty", paragraph(meaning, " ", nothing))
    # The slices that hold most of it, in their order, and not all beside each other.
    amounts = np.where(inside, content.uncertainty, 0).sum(axis=(1, 2))
    indices = _spaced_peaks(amounts, UNCERTAINTY_CELLS)
    cells = []
    for index in indices:
        cell = _axial(content, views, index)
        uncertainty = views.plane(content.uncertainty, AXIAL, index).astype(np.float32)
        scaled = (uncertainty - UNCERTAINTY_FROM) / (UNCERTAINTY_TO - UNCERTAINTY_FROM)
        cell.outlines = [(mask, "over") for mask, _ in cell.outlines]
        cell.heat = np.where(uncertainty > UNCERTAINTY_FROM, np.clip(scaled, 1e-3, 1), 0)
        cells.append(cell)
    picture = sheet(
        cells, UNCERTAINTY_COLUMNS, f"{len(cells)} axial slices with the uncertainty as colours"
    )
    ticks = [f"{v:.1f}" for v in np.linspace(UNCERTAINTY_FROM, UNCERTAINTY_TO, 5)]
    scale = legend("standard deviation of the probability", ticks)
    caption = (
        f"The axial slices with the highest uncertainty. {convention_note(content.convention)}"
    )
    return section(
        "Uncertainty",
        paragraph(meaning, class_="lead"),
        figure(joined([scale, picture]), caption),
        class_="keep",
    )


def side_figures(content: ReportContent) -> Markup | None:
    """The slice with the most of a lesion beside its mirror image."""
    lesions = _kept(content)
    if not lesions:
        return None
    views = _views(content)
    mirrored = mirror(content.t1, content.affine, content.midline_x_mm)
    figures = []
    for lesion in lesions[:MOST_SIDES]:
        own = content.labels == lesion.label
        if not own.any():
            continue
        index = int(own.sum(axis=(1, 2)).argmax())
        outline = views.plane(own, AXIAL, index)
        cells = [
            _cell(content, views, AXIAL, index, [(outline, "lesion")]),
            Cell(
                views.plane(mirrored, AXIAL, index),
                views.letters(AXIAL, mirrored=True),
                "mirrored",
                [(outline, "opposite")],
            ),
        ]
        here, there = float(content.t1[own].mean()), float(mirrored[own].mean())
        text = f"Lesion {lesion.label}, {_side(lesion)}."
        if lesion.side != BOTH:
            text += (
                f" Mean T1 intensity {100 * here / 255:.0f} % of the display window within the "
                f"outline, {100 * there / 255:.0f} % on the opposite side."
            )
        described = (
            f"Axial slice through lesion {lesion.label}, and the same slice mirrored with the "
            "outline at the same place"
        )
        figures.append(figure(sheet(cells, 2, described, shown=480), text, class_="mirror"))
    if not figures:
        return None
    plane = (
        "the mid-sagittal plane of MNI152"
        if content.space == "MNI152"
        else "the middle of the scan, which is not aligned"
    )
    note = (
        f"First the slice with the largest area of the lesion, then the same slice mirrored at "
        f"{plane}; the dashed outline encloses the tissue that lies opposite the lesion."
    )
    if len(lesions) > MOST_SIDES:
        note += f" The {MOST_SIDES} largest lesions are shown."
    return _pairs("Side-to-side comparison", note, figures)


def alignment_figure(content: ReportContent) -> Markup | None:
    """The outline of the MNI brain on the scan as it was aligned, or as that was tried."""
    caption = (
        "The outline is the brain of the MNI152 template. It should run along the surface of the "
        "brain, to within a few millimetres. "
    )
    if content.tried is not None:
        tried = content.tried
        nothing = np.zeros(tried.t1.shape, dtype=np.int32)
        content = replace(
            content,
            t1=tried.t1,
            brain=tried.brain,
            affine=tried.affine,
            labels=nothing,
            uncertainty=None,
            correction=None,
            space="MNI152",
        )
        caption += "This is the best place that was found for the scan; it was not used. "
    if content.brain is None:
        return None
    views = Views(content.convention, crop_box(content.brain, 14))
    points = ((0.0, -18.0, 0.0), (32.0, 10.0, 30.0))
    cells = []
    for point in points:
        kji = content.index_kji(point)
        for axis in range(3):
            outline = views.plane(content.brain, axis, kji[axis])
            cells.append(_cell(content, views, axis, kji[axis], [(outline, "brain")]))
    picture = sheet(
        cells, 3, "Six planes of the aligned scan with the outline of the MNI152 brain", shown=760
    )
    return figure(picture, caption + convention_note(content.convention), class_="narrow")


def mirror(array: NDArray[Any], affine: NDArray[np.float64], midline_x_mm: float) -> NDArray[Any]:
    """A (K, J, I) array on a RAS grid mirrored at the plane x = ``midline_x_mm``; 0 beyond it.

    The plane is rounded to half voxels.
    """
    width = array.shape[2]
    twice = round(2 * (midline_x_mm - float(affine[0, 3])) / float(affine[0, 0]))
    source = twice - np.arange(width)
    valid = (source >= 0) & (source < width)
    out = np.zeros_like(array)
    out[:, :, valid] = array[:, :, source[valid]]
    return out


def _views(content: ReportContent) -> Views:
    return Views(content.convention, _brain_box(content))


def _brain_box(content: ReportContent) -> Box:
    """What the pictures show: the brain, or the upper part of the head, and every lesion."""
    if content.brain is not None:
        return crop_box(content.brain | (content.labels > 0) | _automatic(content), 6)
    head = content.t1 > _HEAD_ABOVE
    # Single bright voxels of the background do not count.
    solid = np.flatnonzero(head.mean(axis=(1, 2)) > 0.02)
    if solid.size:
        lowest = int(solid[-1] - _BRAIN_HEIGHT_MM / float(content.affine[2, 2]))
        head[: max(0, lowest)] = False
        head[solid[-1] + 1 :] = False
    for axis in (1, 2):
        line = head.any(axis=0).mean(axis=2 - axis) if head.any() else np.ones(head.shape[axis])
        thin = line < 0.05
        head[(slice(None),) * axis + (thin,)] = False
    return crop_box(head | (content.labels > 0) | _automatic(content), 4)


def _kept(content: ReportContent) -> list[Lesion]:
    return [lesion for lesion in content.lesions if lesion.keep]


def _pairs(title: str, note: str, figures: list[Markup]) -> Markup:
    """A section of figures, two in a row where there is room."""
    lead = paragraph(note, class_="lead")
    return section(title, lead, element("div", *figures, class_="pair"), class_="keep")


def _cell(
    content: ReportContent, views: Views, axis: int, index: int, outlines: list[Any], **more: Any
) -> Cell:
    """One plane of the scan, with its letters and its place."""
    plane = views.plane(content.t1, axis, index)
    return Cell(plane, views.letters(axis), _place(content, axis, index), outlines, **more)


def _axial(content: ReportContent, views: Views, index: int) -> Cell:
    labels = views.plane(content.labels, AXIAL, index)
    outlines = [*_before(content, views, AXIAL, index), (labels > 0, "lesion")]
    return _cell(content, views, AXIAL, index, outlines)


def _before(content: ReportContent, views: Views, axis: int, index: int) -> list[Any]:
    """The outline of the automatic mask on the page of a corrected one."""
    if content.correction is None:
        return []
    return [(views.plane(content.correction.automatic, axis, index), "automatic")]


def _automatic(content: ReportContent) -> NDArray[np.bool_] | bool:
    """The automatic mask on the page of a corrected one."""
    return False if content.correction is None else content.correction.automatic


def _through(
    content: ReportContent, views: Views, axis: int, kji: tuple[int, int, int], lesion: Lesion
) -> Cell:
    labels = views.plane(content.labels, axis, kji[axis])
    own = labels == lesion.label
    outlines = [
        *_before(content, views, axis, kji[axis]),
        ((labels > 0) & ~own, "other"),
        (own, "lesion"),
    ]
    return _cell(content, views, axis, kji[axis], outlines, cross=views.point(kji, axis))


def _missed(content: ReportContent, indices: list[int]) -> list[int]:
    """For each lesion that no slice crosses, the slice with the most of it."""
    crossed = set(np.unique(content.labels[indices])) if indices else set()
    found = []
    for lesion in _kept(content):
        if lesion.label not in crossed:
            areas = (content.labels == lesion.label).sum(axis=(1, 2))
            # One that is too small for the display grid is where its centre is.
            place = content.index_kji(content.centres_mm[lesion.label])[0]
            found.append(int(areas.argmax()) if areas.any() else place)
    return found


def _even(part: slice, count: int) -> list[int]:
    """``count`` indices spread evenly over a slice, ends left out, all different."""
    length = part.stop - part.start
    step = max(1, length // (count + 1))
    count = min(count, length // step)
    first = part.start + (length - 1 - step * (count - 1)) // 2
    return [first + n * step for n in range(count)]


def _spaced_peaks(amounts: NDArray[np.floating], count: int) -> list[int]:
    """Up to ``count`` indices with high amounts, ascending, at least 3 apart."""
    left = amounts.astype(np.float64).copy()
    found: list[int] = []
    while len(found) < count and left.max() > 0:
        best = int(left.argmax())
        found.append(best)
        left[max(0, best - 2) : best + 3] = 0
    return sorted(found)


def _pass_in_words(name: str) -> str:
    """``axial, flipped ij`` for people."""
    view, _, flips = name.partition(", flipped ")
    if not flips or not set(flips) <= set(_MIRRORED):
        return name
    return f"{view}, mirrored {' and '.join(_MIRRORED[axis] for axis in flips)}"


def _place(content: ReportContent, axis: int, index: int) -> str:
    """Where a plane lies: ``z 12`` in MNI152, ``S 12`` in the scan, mm."""
    world = 2 - axis
    value = float(content.affine[world, 3] + index * content.affine[world, world])
    names = "xyz" if content.space == "MNI152" else "RAS"
    return f"{names[world]} {round(value)}".replace("-", "−")


def _height_note(content: ReportContent) -> str:
    if content.space == "MNI152":
        return "Numbers are z in MNI152, mm."
    return "Numbers are heights in the scan's coordinates (S), mm."


def _side(lesion: Lesion) -> str:
    return "both sides" if lesion.side == BOTH else f"the patient's {lesion.side}"


def _count(number: int) -> str:
    return "no lesion" if number == 0 else f"{number} lesion{'s' * (number > 1)}"
