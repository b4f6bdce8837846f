"""One call for people who write Python: a scan in any of the usual forms in, its lesions out.

It is what ``import stroke_lesion_seg`` offers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .brief import brief_repr
from .errors import InputError
from .operating_point import OperatingPointChoice

if TYPE_CHECKING:
    from .atlases import Atlas
    from .images import Scan, Volume
    from .inference.progress import Progress
    from .lesions import Lesion, LesionMap, RegionTable
    from .models import LoadedModel

__all__ = ["Options", "Segmentation", "segment"]

# What came in, and so what goes out.
_ARRAY, _NIBABEL, _SITK, _FILE = "array", "nibabel", "SimpleITK", "file"
# SimpleITK and DICOM measure to the left and to the back, we to the right and to the front.
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The lesions of one scan.

    Attributes
    ----------
    lesion_map: mask, labels and measurements; arrays (K, J, I).
    probability_map: float32 (K, J, I), 0 to 1, on the scan's grid; its affine maps (i, j, k) to
        RAS mm.
    to_mni: 4x4, RAS mm of the scan to MNI152 RAS mm; None if the scan could not be aligned.
    model: name and version of the model. warnings: one sentence each.

    ``mask`` and ``probability`` come as the scan was given: a NumPy array (I, J, K) for an array,
    a nibabel image for a nibabel image or a file, a SimpleITK image for a SimpleITK image.
    ``as_array``, ``as_nibabel`` and ``as_sitk`` give the others.

    Examples
    --------
    >>> import stroke_lesion_seg
    >>> noise = np.random.default_rng(0).random((32, 32, 16))
    >>> options = stroke_lesion_seg.Options(align="none", force=True)
    >>> result = stroke_lesion_seg.segment(noise, np.eye(4), options=options)
    >>> result.mask.shape, result.probability.dtype
    ((32, 32, 16), dtype('float32'))
    >>> result.save("mask.nii.gz", probability="probability.nii.gz")
    """

    lesion_map: LesionMap
    probability_map: Volume
    to_mni: NDArray[np.float64] | None
    model: str
    warnings: tuple[str, ...]
    _scan: Scan = field(repr=False)
    _form: str = field(repr=False)

    __repr__ = brief_repr

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """One entry for each lesion, largest first."""
        return self.lesion_map.lesions

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions together in mL."""
        return self.lesion_map.summary.volume_ml

    @property
    def mask(self) -> Any:
        """1 in lesions, uint8, in the form that the scan was given in."""
        return self._given(self.lesion_map.mask)

    @property
    def probability(self) -> Any:
        """Probability of lesion, float32, in the form that the scan was given in."""
        return self._given(self.probability_map.array)

    def regions(self, atlas: Atlas | None = None) -> RegionTable | None:
        """Lesion volumes by region and side; None if the scan could not be aligned.

        ``atlas``: from ``StrokeLesionSegLib.atlases.read_atlas``; None takes the shipped one.
        """
        from .atlases import region_table

        if self.to_mni is None:
            return None
        return region_table(
            self.probability_map.with_array(self.lesion_map.mask), self.to_mni, atlas
        )

    def as_array(self, what: str = "mask") -> NDArray[Any]:
        """``"mask"``, ``"probability"`` or ``"labels"`` as an array (I, J, K), nibabel's order.

        Raises ``ValueError`` for another word, as ``as_nibabel`` and ``as_sitk`` do.
        """
        return np.ascontiguousarray(self._values(what).T)

    def as_nibabel(self, what: str = "mask") -> Any:
        """The same as a nibabel image; needs nibabel, which Slicer's Python does not bring."""
        return _to_nibabel(self._values(what), self.probability_map.affine)

    def as_sitk(self, what: str = "mask") -> Any:
        """The same as a SimpleITK image."""
        return _to_sitk(self._values(what), self.probability_map.affine)

    def save(
        self,
        mask: str | os.PathLike[str],
        *,
        probability: str | os.PathLike[str] | None = None,
        table: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the mask, and if asked for the probability map and the table of lesions (TSV).

        The endings pick the format: .nii.gz, .nii, .nrrd or .mha. All files appear, or none.

        Raises ``InputError`` for a file that is there already or cannot be written.
        """
        from .images import write_volume
        from .lesions import write_table
        from .outputs import OutputSet

        images = [(Path(mask), self.lesion_map.mask, np.uint8)]
        if probability is not None:
            images.append((Path(probability), self.probability_map.array, np.float32))  # type: ignore[arg-type]
        tables = [] if table is None else [(Path(table), ".tsv")]
        source = self._scan.path if self._form == _FILE else None
        with OutputSet(
            [path for path, _, _ in images], tables, source=source, overwrite=overwrite
        ) as outputs:
            for path, array, dtype in images:
                volume = self.probability_map.with_array(array)
                write_volume(outputs.staged(path), volume, like=self._scan, dtype=dtype)
            for path, _ in tables:
                write_table(outputs.staged(path), self.lesion_map)
            outputs.commit()

    def _values(self, what: str) -> NDArray[Any]:
        values = {
            "mask": self.lesion_map.mask,
            "probability": self.probability_map.array,
            "labels": self.lesion_map.labels,
        }
        if what not in values:
            raise ValueError(f"{what!r} is none of {', '.join(values)}")
        return values[what]

    def _given(self, array: NDArray[Any]) -> Any:
        affine = self.probability_map.affine
        if self._form == _ARRAY:
            return np.ascontiguousarray(array.T)
        return _to_sitk(array, affine) if self._form == _SITK else _to_nibabel(array, affine)


@dataclass(frozen=True)
class Options:
    """How ``segment`` looks for lesions; what is None is as the model recommends.

    Attributes
    ----------
    threshold, second_threshold, min_volume_ml, min_mean_probability: what counts as a lesion, see
        ``StrokeLesionSegLib.operating_point``.
    views, tta, exact, mirror, align, device, threads: how the network runs, as in
        ``stroke-lesion-seg segment``; ``exact`` and ``mirror`` are for models of others.
    series: the SeriesInstanceUID to take of a DICOM folder with several.
    force: go on with what the input check takes for no T1-weighted head.

    Examples
    --------
    >>> from stroke_lesion_seg import Options
    >>> Options(threshold=0.4, align="none").force
    False
    """

    threshold: float | None = None
    second_threshold: float | None = None
    min_volume_ml: float | None = None
    min_mean_probability: float | None = None
    views: str | None = None
    tta: bool = False
    exact: bool = False
    mirror: bool = True
    align: str = "auto"
    device: str = "auto"
    threads: int | None = None
    series: str | None = None
    force: bool = False


def segment(
    scan: Any,
    affine: ArrayLike | None = None,
    *,
    options: Options | None = None,
    model: LoadedModel | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Find the chronic stroke lesions in one T1-weighted scan.

    Parameters
    ----------
    scan: the path of a file or of a folder with a DICOM series, a nibabel image, a SimpleITK
        image, or an array (I, J, K) together with ``affine``.
    affine: 4x4, voxel indices (i, j, k, 1) to RAS mm, nibabel's convention; for arrays only.
    options: see ``Options``.
    model: the name of a model, its folder, or a loaded one, for many scans; None takes the default.
    progress: called with (stage, done, total).

    Raises ``InputError`` (one line: what, why, what to do) for a scan, an option or a model that
    cannot be used; ``TypeError`` for a scan, options or a model in none of these forms, and for an
    array without affine or another form with one.

    Examples
    --------
    >>> import stroke_lesion_seg
    >>> noise = np.random.default_rng(0).random((32, 32, 16))
    >>> options = stroke_lesion_seg.Options(align="none", force=True)
    >>> result = stroke_lesion_seg.segment(noise, np.eye(4), options=options)
    >>> bool(np.isclose(result.volume_ml, result.mask.sum() / 1000))
    True
    """
    from .inference import SegmentOptions
    from .inference.device import prepare_environment

    # Before torch and SimpleITK are imported, which read it.
    form = _form_of(scan, affine)
    if options is not None and not isinstance(options, Options):
        raise TypeError(f"options are stroke_lesion_seg.Options, not {type(options).__name__}")
    prepare_environment()
    from .models import LoadedModel, load_model
    from .pipeline import ScanRunner, check_source, find_in, mni_matrix
    from .pipeline.source import check_series

    source = Path(scan) if form == _FILE else Path("scan")
    if form == _FILE:
        check_source(source)
    if isinstance(model, LoadedModel):
        loaded = model
    elif model is None or isinstance(model, (str, os.PathLike)):
        loaded = load_model(model)
    else:
        raise TypeError(f"a model is a name, a folder or a loaded one, not {type(model).__name__}")
    asked = options or Options()
    running = SegmentOptions(
        views=asked.views,
        tta=asked.tta,
        exact=asked.exact,
        mirror=asked.mirror,
        align=asked.align,
        device=asked.device,
        threads=asked.threads,
    ).for_model(loaded.manifest)
    choice = OperatingPointChoice(
        asked.threshold, asked.second_threshold, asked.min_volume_ml, asked.min_mean_probability
    )
    point = choice.resolve(loaded.manifest.operating_point(running.views))
    read = _scan_of(scan, form, affine, asked.series)
    check_series(asked.series, read)

    runner = ScanRunner(loaded, running, point, force=asked.force)
    run = runner.prepare(source, read, {}, progress=progress)
    runner.network(run, progress=progress)
    prediction = runner.predicted(run, progress=progress)
    return Segmentation(
        find_in(prediction, point),
        prediction.probability,
        mni_matrix(prediction),
        f"{loaded.manifest.name} {loaded.manifest.version}",
        runner.warnings_of(run, prediction),
        run.scan,
        form,
    )


def _form_of(scan: Any, affine: ArrayLike | None) -> str:
    """In which of the four forms a scan is given; ``TypeError`` for others."""
    if isinstance(scan, (str, os.PathLike)):
        form = _FILE
    elif hasattr(scan, "dataobj") and hasattr(scan, "affine"):
        form = _NIBABEL
    elif hasattr(scan, "GetDirection") and hasattr(scan, "GetSpacing"):
        form = _SITK
    elif isinstance(scan, (np.ndarray, list, tuple)):
        if affine is None:
            raise TypeError("an array needs its affine: segment(array, affine)")
        return _ARRAY
    else:
        raise TypeError(
            f"a scan is a path, an array with affine, a nibabel or a SimpleITK image, "
            f"not {type(scan).__name__}"
        )
    if affine is not None:
        raise TypeError("an affine is for arrays only: files and images bring theirs")
    return form


def _scan_of(scan: Any, form: str, affine: ArrayLike | None, series: str | None) -> Scan:
    from .images import checked_scan, read_scan

    if form == _FILE:
        return read_scan(Path(scan), series=series)
    if form == _SITK:
        array, matrix = _from_sitk(scan)
        return checked_scan("image", array, matrix)
    if form == _NIBABEL:
        if scan.affine is None:
            raise InputError("image", "has no affine", "Give a nibabel image with one")
        return checked_scan("image", np.asanyarray(scan.dataobj).T, np.asarray(scan.affine, float))
    try:
        values, matrix = np.asarray(scan), np.asarray(affine, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("array", f"is not numeric ({error})", "Give a numeric array") from None
    if matrix.shape != (4, 4):
        raise InputError("affine", f"has the shape {matrix.shape}, not (4, 4)", "Give a 4x4 matrix")
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        told = " ".join(f"{value:g}" for value in matrix[3])
        remedy = "Give voxel indices to RAS mm as nibabel does, with the origin in the last column"
        raise InputError("affine", f"its last row is {told}, not 0 0 0 1", remedy)
    return checked_scan("array", values.T, matrix)


def _from_sitk(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Array (K, J, I) and RAS affine of a SimpleITK image."""
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    n = image.GetDimension()
    if n != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "image", f"has {n} axes or several components", "Give a scalar image with three axes"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return array, _FLIP @ affine


def _to_sitk(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    matrix = _FLIP @ affine
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _to_nibabel(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    import nibabel

    return nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine)
