"""From a scan on its own grid to its page: places, sides, privacy."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from report_support import cells, parse, picture, section
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Scan, Volume
from StrokeLesionSegLib.lesions import LesionMap, find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.report import (
    ReportContent,
    ReportOptions,
    RunFacts,
    report_content,
    report_path,
    scan_report,
)

# Posterior, inferior, right: as many sagittal T1s are stored. Oblique by 8 degrees, 2 x 2 x 2.5 mm.
_A = np.deg2rad(8)
AFFINE = np.array(
    [
        [0, 0, 2.5, -78.0],
        [-2 * np.cos(_A), -2 * np.sin(_A), 0, 105.0],
        [2 * np.sin(_A), -2 * np.cos(_A), 0, 70.0],
        [0, 0, 0, 1],
    ]
)
SHAPE = (64, 90, 104)  # k (right), j (inferior), i (posterior)
# The head lies 12 mm to the left, tilted, and is smaller than MNI's.
TO_MNI = np.array(
    [[1.08, 0.05, 0, 14.0], [-0.05, 1.06, 0.1, -9.0], [0, -0.1, 1.1, 6.0], [0, 0, 0, 1]]
)
MANIFEST = SimpleNamespace(
    name="tiny",
    version="0.0.1",
    title="Random",
    created="2026-01-01",
    license="Apache-2.0",
    intended_use="Trained on simulated strokes.",
    weights={"sha256": "ab" * 32},
)


def world(affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(3, K, J, I): RAS mm of every voxel."""
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    return (
        np.tensordot(affine[:3, :3], np.stack([i, j, k]), axes=1) + affine[:3, 3, None, None, None]
    )


def phantom(mni_x: float) -> tuple[Volume, np.ndarray]:
    """A head with a dark ball at (mni_x, 20, 30) mm of MNI space, and that ball."""
    ras = world()
    mni = np.tensordot(TO_MNI[:3, :3], ras, axes=1) + TO_MNI[:3, 3, None, None, None]
    head = (mni[0] / 75) ** 2 + ((mni[1] + 18) / 95) ** 2 + ((mni[2] - 5) / 80) ** 2 < 1
    ball = ((mni - np.array([mni_x, 20, 30])[:, None, None, None]) ** 2).sum(axis=0) < 14**2
    rng = np.random.default_rng(0)
    array = np.where(head, 100 + 10 * rng.random(SHAPE), 0.0)
    array[ball] = 40
    return Volume(array.astype(np.float32), AFFINE), ball


def gather(
    volume: Volume,
    lesion: np.ndarray,
    *,
    matrix: np.ndarray | None = TO_MNI,
    reason: str = "",
    path: Path = Path("/data/Doe, John/sub-01_T1w.nii.gz"),
    form: str = "nifti",
    **options: object,
) -> tuple[ReportContent, LesionMap]:
    found = find_lesions(
        lesion * np.float32(0.9),
        volume.affine,
        OperatingPoint(0.5),
        to_mni=matrix,
    )
    header = {"series": {"SeriesInstanceUID": "1.2.3.4", "SeriesDescription": "T1 Doe^John"}}
    scan = Scan(volume, path, form, header=header)
    alignment = None if matrix is None else Alignment(matrix, not reason, reason, 0.9, 0.8, 1.0)
    content = report_content(
        scan,
        found,
        uncertainty=volume.with_array(lesion * np.float32(0.3)),
        alignment=alignment,
        run=RunFacts(
            MANIFEST,
            settings={"views": "axial", "tta": False, "align": "auto", "threads": 3},
            details={"passes": ["axial"], "device": "cpu", "intensity_window": [1.0, 99.0]},
            versions={"Python": "3.11"},
            warnings=(f"{path}: the qform and sform differ.", "Saved by /opt/x/y/tool."),
            seconds=12.5,
            sha256="cd" * 32,
        ),
        options=ReportOptions(**options),
    )
    return content, found


def tiny() -> tuple[Volume, np.ndarray]:
    """A small scan with a lesion, for what does not depend on places."""
    array = np.full((24, 26, 28), 100, dtype=np.float32)
    array[:3] = 0
    lesion = np.zeros(array.shape, dtype=bool)
    lesion[10:14, 10:14, 6:10] = True
    array[lesion] = 150
    return Volume(array, np.diag([1.5, 1.5, 1.5, 1.0])), lesion


def outline_fits(content: ReportContent) -> np.ndarray:
    """The dark ball in the displayed T1, which has to be where the lesion is drawn."""
    drawn = content.labels == 1
    box = tuple(slice(v.min() - 2, v.max() + 3) for v in np.nonzero(drawn))
    head = np.median(content.t1[box][~drawn[box]])
    dark = np.zeros(drawn.shape, dtype=bool)
    dark[box] = content.t1[box] < (head + np.median(content.t1[drawn])) / 2
    assert 2 * (dark & drawn).sum() / (dark.sum() + drawn.sum()) > 0.93
    return dark


@pytest.mark.parametrize(("mni_x", "letter"), [(-38.0, "L"), (38.0, "R")])
def test_lesion_lies_where_it_is_on_the_aligned_page(mni_x: float, letter: str) -> None:
    volume, lesion = phantom(mni_x)
    content, found = gather(volume, lesion)
    assert content.space == "MNI152"
    assert content.t1.shape == content.labels.shape == MNI_GRID.shape
    dark = outline_fits(content)
    k, j, i = (v.mean() for v in np.nonzero(content.labels == 1))
    placed = MNI_GRID.affine @ (i, j, k, 1)
    np.testing.assert_allclose(placed[:3], (mni_x, 20, 30), atol=1.0)
    np.testing.assert_allclose(content.centres_mm[1], (mni_x, 20, 30), atol=1.0)
    uncertainty = content.uncertainty > 0.15
    assert 2 * (uncertainty & dark).sum() / (uncertainty.sum() + dark.sum()) > 0.93

    page = parse(scan_report(content))
    svg = section(page, "Overview").one("svg")
    drawn = [cell for cell in cells(svg) if "lesion" in cell.outlines]
    assert drawn
    for cell in drawn:
        x = cell.outlines["lesion"][0][:, 0].mean()
        middle = (cell.texts["L"] + cell.texts["R"]) / 2
        assert (x > middle) == (cell.texts[letter] > middle)
        assert cell.texts["L"] > middle  # radiological
    side = {"L": "left", "R": "right"}[letter]
    assert f"on the patient's {side}" in section(page, "Summary").text
    assert f"{found.summary.volume_ml:.2f} mL" in section(page, "Summary").text


def test_lesion_lies_where_it_is_without_alignment() -> None:
    volume, lesion = phantom(-38.0)
    content, found = gather(volume, lesion, matrix=None)
    assert content.space == "scan"
    assert content.brain is None
    dark = outline_fits(content)
    assert dark.any()
    # The middle is that of the scan, as it is for the measured sides.
    corners = world()[0]
    assert content.midline_x_mm == pytest.approx((corners.min() + corners.max()) / 2)
    page = parse(scan_report(content))
    assert found.lesions[0].side == "left"
    svg = section(page, "Overview").one("svg")
    pixels = picture(svg)
    for cell in cells(svg):
        for loop in cell.outlines.get("lesion", []):
            x, y = loop.mean(axis=0)
            assert pixels[int(y), int(x)] <= content.t1[dark].max()
            assert x > (cell.texts["L"] + cell.texts["R"]) / 2
    assert any(label.startswith("S ") for cell in cells(svg) for label in cell.texts)
    assert "not aligned to MNI152, as asked for" in section(page, "Alignment to MNI152").text


def test_page_names_no_path_unless_asked() -> None:
    volume, lesion = tiny()
    content, _ = gather(volume, lesion, matrix=None)
    page = scan_report(content)
    assert content.name == "sub-01_T1w"
    assert scan_report(gather(volume, lesion, matrix=None, name="s7")[0]).count("sub-01") == 0
    assert "sub-01_T1w.nii.gz: the qform and sform differ." in page
    for secret in ("Doe", "/data", "/opt", "John", "1.2.3.4"):
        assert secret not in page
    asked, _ = gather(volume, lesion, matrix=None, show_paths=True)
    assert "/data/Doe, John/sub-01_T1w.nii.gz" in scan_report(asked)


def test_page_of_a_dicom_folder_names_nobody() -> None:
    volume, lesion = tiny()
    folder = Path("/pacs/DOE^JOHN_19600101")
    content, _ = gather(volume, lesion, matrix=None, path=folder, form="dicom")
    page = scan_report(content)
    assert content.name == "DICOM series"
    assert "the series: the qform and sform differ." in page
    for secret in ("DOE", "Doe", "JOHN", "19600101", "pacs", "1.2.3.4"):
        assert secret not in page
    asked, _ = gather(volume, lesion, matrix=None, path=folder, form="dicom", show_paths=True)
    page = scan_report(asked)
    assert "DOE^JOHN_19600101" in page
    assert "1.2.3.4" in page
    assert "T1 Doe^John" not in page


def test_a_folder_called_as_its_contrast_does_not_garble_the_warnings() -> None:
    volume, _ = tiny()
    scan = Scan(volume, Path("T1"), "dicom", header={})
    found = find_lesions(volume.array * 0, volume.affine, OperatingPoint(0.5))
    warnings = (
        '"T1 MPRAGE" (160 images) is taken; is it T1-weighted?',
        'T1: its header is odd; "T1" and "T1/IM1" too.',
    )
    told = report_content(scan, found, run=RunFacts(warnings=warnings)).warnings
    assert told[0] == warnings[0]
    assert told[1] == 'the series: its header is odd; "the series" and "the series/IM1" too.'


def test_the_smallest_lesion_is_shown() -> None:
    affine = np.diag([0.4, 0.4, 0.4, 1.0])
    array = np.full((60, 60, 60), 100, dtype=np.float32)
    array[:5] = 0
    lesion = np.zeros(array.shape, dtype=bool)
    # No voxel of the 1 mm grid has its centre in this one.
    lesion[31, 32, 33] = True
    content, found = gather(Volume(array, affine), lesion, matrix=None)
    assert found.summary.count == 1
    (where,) = np.argwhere(content.labels)
    placed = content.affine @ (*where[::-1], 1)
    assert np.abs(placed[:3] - affine[0, 0] * np.array([33, 32, 31])).max() <= 0.51


def test_a_failed_alignment_is_shown_and_not_used() -> None:
    """The picture lies where the alignment put the scan; everything else where the scan lies."""
    volume, lesion = phantom(-38.0)
    good, _ = gather(volume, lesion)
    failed, _ = gather(volume, lesion, reason="The overlap is too small.")
    assert failed.space == "scan"
    assert failed.brain is None
    assert failed.tried is not None
    assert good.tried is None
    np.testing.assert_array_equal(failed.tried.t1, good.t1)
    np.testing.assert_array_equal(failed.tried.brain, good.brain)
    part = section(parse(scan_report(failed)), "Alignment to MNI152")
    assert len(part.all("svg")) == 1
    far = np.eye(4)
    far[0, 3] = 1e4
    for useless in (far, np.diag([1e-9, 1, 1, 1])):
        content, _ = gather(volume, lesion, matrix=useless, reason="Nothing was found.")
        assert content.tried is None


def test_facts_of_the_run() -> None:
    volume, lesion = tiny()
    content, _ = gather(volume, lesion, matrix=None, convention="neurological")
    text = section(parse(scan_report(content)), "How this was made").text
    for fact in ("28 × 26 × 24 voxels", "1.5 × 1.5 × 1.5 mm", "Apache-2.0", "ab" * 32, "cd" * 32):
        assert fact in text
    for fact in ("neurological convention", "Flipped copies", "12.5 s", "1 to 99", "NIfTI"):
        assert fact in text


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x/sub-01_T1w.nii.gz", "sub-01_T1w.html"),
        ("a.b.nrrd", "a.b.html"),
        ("series", "series.html"),
    ],
)
def test_report_is_called_like_the_scan(source: str, name: str) -> None:
    assert report_path(Path("out"), Path(source)) == Path("out") / name


def test_report_does_not_bear_the_name_of_a_dicom_folder(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^John"
    folder.mkdir()
    name = report_path(Path("out"), folder).name
    assert re.fullmatch(r"dicom-[0-9a-f]{8}\.html", name)
