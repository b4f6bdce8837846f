"""``stroke-lesion-seg demo``: a stroke that is known, found again, and a picture of it."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..outputs import OutputSet, os_input_error
from ..pipeline import FileOptions, OutputPaths, SegmentResult, segment_file
from .options import add_progress_argument, number, path, prepare
from .progress import make_reporter, print_json
from .segment import print_result
from .verbosity import say

if TYPE_CHECKING:
    from ..images import Volume
    from ..sample_scan import SimulatedStroke

# Uncertainty below this is not drawn.
_LEAST_UNCERTAINTY = 0.02


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="segment a simulated stroke and compare with the truth",
        description="Put a simulated chronic stroke into the MNI152 template, segment it as "
        "'segment' does, compare with the truth and draw a picture.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", type=path, default=Path("demo"), metavar="DIR", help="default: ./demo"
    )
    parser.add_argument(
        "--seed", type=number(0, 2**31, kind=int), default=0, metavar="N", help="another stroke"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="default: the model that ships with the program"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist already"
    )
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    missing = [p for p in ("nilearn", "matplotlib") if importlib.util.find_spec(p) is None]
    if missing:
        raise InputError(
            "demo",
            f"needs {' and '.join(missing)}, which are not installed",
            'Install it with: python -m pip install "stroke-lesion-seg[demo]"',
        )
    prepare(arguments)
    from ..inference import SegmentOptions
    from ..models import find_model

    find_model(arguments.model)
    folder: Path = arguments.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(error, folder) from error

    scan, truth, picture = folder / "t1.nii.gz", folder / "truth.nii.gz", folder / "demo.png"
    paths = OutputPaths(
        mask=folder / "lesion.nii.gz",
        probability=folder / "probability.nii.gz",
        uncertainty=folder / "uncertainty.nii.gz",
        table=folder / "lesion.tsv",
        sidecar=folder / "lesion.json",
    )
    # All outputs are looked at before the first is written, the later ones too.
    with OutputSet(paths.volumes, paths.documents, overwrite=arguments.overwrite):
        pass
    as_json = arguments.progress == "json"
    with OutputSet([scan, truth], [(picture, ".png")], overwrite=arguments.overwrite) as outputs:
        stroke = _simulate(arguments.seed)
        _write(outputs, scan, stroke.t1)
        _write(outputs, truth, stroke.truth)
        with make_reporter(arguments.progress) as reporter:
            result = segment_file(
                outputs.staged(scan),
                paths,
                # Flips, so that there is uncertainty to be seen.
                FileOptions(model=arguments.model, options=SegmentOptions(tta=True)),
                overwrite=arguments.overwrite,
                progress=reporter,
            )
        dice = _dice(result, stroke)
        _draw(outputs.staged(picture), stroke, result, dice)
        outputs.commit()
    truth_ml = float(stroke.truth.array.sum()) * stroke.truth.grid.voxel_volume_ml
    if as_json:
        files = {"source": str(scan), "truth": str(truth), "picture": str(picture)}
        scores = {"dice": round(dice, 4), "truth_ml": round(truth_ml, 3)}
        print_json({"stage": "result", **result.as_dict(), **files, **scores})
        return
    print_result(result)
    say(f"{'scan':<12}{scan}\n{'truth':<12}{truth}\n{'picture':<12}{picture}")
    say(f"{'volume':<12}{result.volume_ml:.1f} mL found, {truth_ml:.1f} mL true")
    say(f"{'Dice':<12}{dice:.3f}")
    if dice < 0.5:
        print("warning: the stroke was not found as it should be", file=sys.stderr)


def _simulate(seed: int) -> SimulatedStroke:
    from nilearn import datasets

    from ..sample_scan import stroke_in_template

    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
    )
    t1, grey, white = (_from_nibabel(load(resolution=1)) for load in loaders)
    return stroke_in_template(t1, grey, white, seed)


def _from_nibabel(image: Any) -> Volume:
    """nibabel indexes [i, j, k], we [k, j, i]; both affines map ijk to RAS mm."""
    import numpy as np

    from ..images import Volume

    array = np.ascontiguousarray(image.get_fdata(dtype=np.float32).T)
    return Volume(array, np.asarray(image.affine, dtype=np.float64))


def _write(outputs: OutputSet, path: Path, volume: Volume) -> None:
    from ..images import write_volume

    try:
        write_volume(outputs.staged(path), volume, dtype=volume.array.dtype)
    except InputError as error:
        raise InputError(path, error.cause, error.remedy) from error


def _dice(result: SegmentResult, stroke: SimulatedStroke) -> float:
    found = result.lesion_map.mask > 0
    true = stroke.truth.array > 0
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def _draw(file: Path, stroke: SimulatedStroke, result: SegmentResult, dice: float) -> None:
    """T1, truth, prediction and uncertainty in three planes through the cavity."""
    import matplotlib

    matplotlib.use("Agg")
    import nibabel
    import numpy as np
    from matplotlib import pyplot
    from nilearn import plotting

    def image(volume: Volume, array: Any = None) -> Any:
        values = volume.array if array is None else array
        return nibabel.Nifti1Image(values.T.astype(np.float32), volume.affine)

    background = image(stroke.t1)
    top = float(np.percentile(stroke.t1.array[stroke.t1.array > 0], 99.5))
    uncertainty = result.prediction.uncertainty
    rows = (
        ("T1 with a simulated stroke", None, None),
        ("truth", image(stroke.truth), "gold"),
        (
            f"prediction, Dice {dice:.2f}",
            image(stroke.truth, result.lesion_map.mask),
            "deepskyblue",
        ),
        (f"uncertainty, up to {uncertainty.array.max():.2f}", image(uncertainty), None),
    )
    figure, axes = pyplot.subplots(len(rows), 1, figsize=(8, 11), facecolor="black")
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.96, hspace=0.12)
    for axis, (title, overlay, color) in zip(axes, rows, strict=True):
        display = plotting.plot_anat(
            background,
            cut_coords=stroke.centre_ras_mm,
            display_mode="ortho",
            axes=axis,
            vmin=0,
            vmax=top,
            black_bg=True,
            draw_cross=False,
            colorbar=False,
        )
        highest = 0.0 if overlay is None else float(overlay.get_fdata().max())
        if color is not None and highest > 0:
            display.add_contours(overlay, levels=[0.5], colors=[color], linewidths=1.6)
        elif color is None and highest > _LEAST_UNCERTAINTY:
            display.add_overlay(
                overlay,
                cmap="inferno",
                threshold=_LEAST_UNCERTAINTY,
                vmin=0,
                vmax=highest,
                colorbar=False,
            )
        axis.set_title(title, color="white", fontsize=12)
    figure.savefig(file, dpi=110, facecolor="black")
    pyplot.close(figure)
