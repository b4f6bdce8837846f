"""``stroke-lesion-seg score``: masks against the truth, by one of the official scorers."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from ..outputs import OutputSet
from ..pipeline import check_source
from .options import EXIT_SOME_FAILED, add_progress_argument, number, path
from .progress import make_reporter, print_json
from .tables import print_table
from .verbosity import is_quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..images import Volume
    from ..lesions.scorers import FolderScores, MaskChoice

SCORERS = ("atlas2022", "isles2022", "isles2026")
# More cases that could not be scored are in the files of --output.
_LISTED = 10
# The scorer that takes probabilities, too.
_OF_SOFT_MAPS = "isles2026"
# What the summary says of each measure.
_SUMMARY = ("n", "mean", "median", "ci95_low", "ci95_high")
# Headers that went through float32 and quaternions agree to about this.
_TOLERANCE_MM = 0.01


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "score",
        help="compare masks with the truth",
        description="Score a lesion mask against the true one, or a folder of masks against a "
        "folder of true ones. Both have to lie on the same grid. Exit codes: 0 all cases are "
        "scored; 3 some could not be; 2 none could, or wrong arguments.",
        allow_abbrev=False,
    )
    parser.add_argument("prediction", type=path, metavar="PRED", help="mask, or folder of masks")
    parser.add_argument("truth", type=path, metavar="TRUTH", help="mask, or folder of masks")
    parser.add_argument("--scorer", choices=SCORERS, default=SCORERS[0], help="default: atlas2022")
    parser.add_argument(
        "--soft",
        type=path,
        metavar="FILE",
        help="probability map, for isles2026's PR-AUC (in folders it is found by its name)",
    )
    parser.add_argument(
        "--label",
        type=_labels,
        action="append",
        metavar="[pred=|truth=]LABELS",
        help="which labels or segments of maps of labels are lesion, with commas between; of the "
        "predictions or the references only with pred= or truth=, and then of plain masks too",
    )
    parser.add_argument(
        "--threshold",
        type=number(0, 1, open_ends=True),
        metavar="P",
        help="probability from which on a voxel of a soft map is lesion (percent and 0 to 255 are "
        "recognised); without it soft maps are refused",
    )
    parser.add_argument(
        "--distances",
        action="store_true",
        help="add sensitivity, precision, the 95th percentile of the Hausdorff distance and the "
        "average symmetric surface distance (mm)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="DIR",
        help="for folders: write scores_SCORER_cases.tsv, scores_SCORER_summary.tsv, "
        "scores_SCORER.json and a page, scores_SCORER.html, there",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist already"
    )
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def _labels(text: str) -> tuple[str, tuple[int | str, ...]]:
    """("pred", "truth" or "", the labels)."""
    side, equals, rest = text.partition("=")
    if not equals or side not in ("pred", "truth"):
        side, rest = "", text
    names = [name.strip() for name in rest.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} names no label")
    return side, tuple(int(n) if re.fullmatch(r"-?\d+", n) else n for n in names)


def _choice(arguments: argparse.Namespace) -> MaskChoice:
    from ..lesions.scorers import MaskChoice

    told: dict[str, tuple[int | str, ...]] = {}
    for side, labels in arguments.label or ():
        told[side] = told.get(side, ()) + labels
    return MaskChoice(
        pred=told.get("pred", told.get("")),
        truth=told.get("truth", told.get("")),
        strict_pred="pred" in told,
        strict_truth="truth" in told,
        threshold=arguments.threshold,
    )


def run(arguments: argparse.Namespace) -> int | None:
    for file in (arguments.prediction, arguments.truth):
        check_source(file)
    if arguments.prediction.is_dir() and arguments.truth.is_dir():
        if arguments.soft is not None:
            raise InputError(
                "--soft", "is for two files", "Put each map beside its mask, where it is found"
            )
        return _score_folders(arguments)
    for folder, file in (
        (arguments.prediction, arguments.truth),
        (arguments.truth, arguments.prediction),
    ):
        if folder.is_dir():
            raise InputError(
                folder, f"is a folder, but {file} is a file", "Give two files or two folders"
            )
    if arguments.output is not None:
        raise InputError("--output", "is for two folders", "Give folders, or print with --json")
    if arguments.soft is not None and arguments.scorer != _OF_SOFT_MAPS:
        raise InputError(
            "--soft", f"is not used by {arguments.scorer}", f"Add --scorer {_OF_SOFT_MAPS}"
        )
    _score_files(arguments)
    return None


def _score_files(arguments: argparse.Namespace) -> None:
    from ..lesions.scorers import score_case

    files = [arguments.prediction, arguments.truth]
    if arguments.soft is not None:
        check_source(arguments.soft)
        files.append(arguments.soft)
    choice, notes = _choice(arguments), dict[str, None]()
    read = _reader(choice)
    volumes = [read(file) for file in files]
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        _check_same_grid(arguments.prediction, volumes[0], file, volume)
    try:
        scores = score_case(
            choice.mask(files[0], volumes[0], notes),
            choice.mask(files[1], volumes[1], notes, truth=True),
            volumes[1].affine,
            arguments.scorer,
            soft=volumes[2].array if arguments.soft is not None else None,
            distances=arguments.distances,
        )
    except ValueError as error:  # of a soft map
        raise InputError(files[-1], str(error), "Give a probability map") from error
    _tell(notes)
    if arguments.json:
        print_json(_jsonable({"scorer": arguments.scorer, **scores}))
    else:
        rows = [[k, _text(v)] for k, v in scores.items()]
        print_table(("measure", arguments.scorer), rows)


def _score_folders(arguments: argparse.Namespace) -> int:
    with _outputs(arguments) as outputs:
        from ..lesions.scorers import ScoreOptions, score_folders

        choice = _choice(arguments)
        with make_reporter(arguments.progress) as reporter:
            result = score_folders(
                arguments.prediction,
                arguments.truth,
                arguments.scorer,
                ScoreOptions(choice, arguments.distances, _names_of),
                read=_reader(choice),
                progress=reporter,
            )
        if outputs is not None:
            _write(result, arguments, outputs)
    if arguments.json:
        print_json(_content(result))
    elif result.cases and (arguments.output is None or not is_quiet()):
        _print_folders(result)
        if arguments.output is not None:
            print(f"{'page':<12}{_files(arguments)[3].resolve().as_uri()}")
    _tell(result.notes)
    *others, last = result.problems or (None,)
    for problem in others[:_LISTED]:
        print(f"stroke-lesion-seg: {problem}", file=sys.stderr)
    if len(others) > _LISTED:
        print(f"and {len(others) - _LISTED} more that could not be scored", file=sys.stderr)
    if last is None:
        return 0
    if not result.cases:
        raise last
    print(f"stroke-lesion-seg: {last}", file=sys.stderr)
    return EXIT_SOME_FAILED


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _content(result: FolderScores) -> dict[str, Any]:
    cases = [{"case": case.case, **case.scores} for case in result.cases]
    problems = [str(problem) for problem in result.problems]
    content = {"scorer": result.scorer, "summary": result.summary, "cases": cases}
    return _jsonable({**content, "problems": problems})


def _outputs(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[OutputSet | None]:
    """The files of ``--output``, checked before the work starts; None if there are to be none."""
    if arguments.output is None:
        return contextlib.nullcontext()
    documents = [(file, file.suffix) for file in _files(arguments)]
    return OutputSet([], documents, overwrite=arguments.overwrite)


def _files(arguments: argparse.Namespace) -> tuple[Path, Path, Path, Path]:
    """Cases, summary, everything, the page."""
    start = f"scores_{arguments.scorer}"
    names = (f"{start}_cases.tsv", f"{start}_summary.tsv", f"{start}.json", f"{start}.html")
    cases, summary, whole, page = (arguments.output / name for name in names)
    return cases, summary, whole, page


def _write(result: FolderScores, arguments: argparse.Namespace, outputs: OutputSet) -> None:
    from ..lesions.tables import write_rows, write_sidecar
    from ..report import ScorePageFacts, write_score_report

    cases, summary, whole, page = _files(arguments)
    measures = list(dict.fromkeys(name for case in result.cases for name in case.scores))
    rows = [
        {
            "case": case.case,
            "pred": _below(case.pred, arguments.prediction),
            "truth": " ".join(_below(t, arguments.truth) for t in (case.truth, *case.more)),
            **case.scores,
        }
        for case in result.cases
    ]
    write_rows(outputs.staged(cases), ("case", "pred", "truth", *measures), rows)
    lines = [{"measure": name, **values} for name, values in result.summary["metrics"].items()]
    count = len(result.cases)
    for name, value in result.summary["volumes"].items():
        lines.append({"measure": f"volume_{name}", "n": count, "mean": value})
    lines += _lesion_free_rows(result)
    write_rows(outputs.staged(summary), ("measure", *_SUMMARY), lines)
    versions = {"name": "StrokeLesionSeg", "version": __version__}
    write_sidecar(outputs.staged(whole), {"software": versions, **_content(result)})
    beside = {
        cases.name: "A row for each case: every measure, counts and volumes",
        summary.name: "A row for each measure: mean, median and interval",
        whole.name: "All of it for programs",
    }
    told = {"Made by": f"StrokeLesionSeg {__version__}", "Bootstrap, seed": result.summary["seed"]}
    more = ScorePageFacts(_reports(result, arguments), beside, told)
    write_score_report(outputs.staged(page), result, more)
    outputs.commit()


def _reports(result: FolderScores, arguments: argparse.Namespace) -> dict[str, str]:
    """The reports that ``batch`` has written beside the masks, as addresses from the page.

    Only where the page lies within the folder of the masks, or that within the page's: else the
    address would tell what folders above both are called.
    """
    here, masks = arguments.output.resolve(), arguments.prediction.resolve()
    if not (here.is_relative_to(masks) or masks.is_relative_to(here)):
        return {}
    found = {}
    for case in result.cases:
        scan = re.sub(r"_(label-lesion|desc-corrected)_mask\..*", "", case.pred.name)
        report = case.pred.resolve().with_name(f"{scan}_desc-lesions_report.html")
        if report.is_file():
            found[case.case] = Path(os.path.relpath(report, here)).as_posix()
    return found


def _lesion_free_rows(result: FolderScores) -> list[dict[str, Any]]:
    """The lesion-free references among the cases, and the share of them left exactly empty."""
    free = result.summary["lesion_free"]
    return [{"measure": "lesion_free_exactly_empty", "n": free["n"],
             "mean": free["share_exactly_empty"]}]  # fmt: skip


def _names_of(place: str) -> tuple[str, ...]:
    """What ``batch`` calls a scan that lies where a reference does: as a file, or of DICOM."""
    from ..cohort.naming import dicom_entities_of, entities_of

    return entities_of(f"{place}.nii.gz").stem, dicom_entities_of(place).stem


def _below(file: Path, folder: Path) -> str:
    """The file as named from the folder that was given: no table tells where that lies."""
    try:
        return file.relative_to(folder).as_posix()
    except ValueError:
        return file.name


def _print_folders(result: FolderScores) -> None:
    names = list(result.summary["metrics"])
    rows = [[case.case, *(_text(case.scores[name]) for name in names)] for case in result.cases]
    print_table(("case", *names), rows, result.scorer)
    print()
    n = result.summary["n"]
    columns = ("measure", "n", "mean", "median", "95 % from", "to")
    summary = [
        [name, *(_text(values[key]) for key in _SUMMARY)]
        for name, values in result.summary["metrics"].items()
    ]
    print_table(columns, summary, f"{n} case{'s' * (n != 1)}")
    volumes = result.summary["volumes"]
    if volumes["correlation"] is not None:
        print(f"correlation of volumes: {volumes['correlation']:.3f}")
    if volumes["limit_low_ml"] is not None:
        bias, low, high = (volumes[key] for key in ("bias_ml", "limit_low_ml", "limit_high_ml"))
        print(f"bias of volumes: {bias:+.2f} mL, limits of agreement {low:+.2f} to {high:+.2f} mL")
    free = result.summary["lesion_free"]
    if free["n"]:
        scans = "1 lesion-free scan is" if free["n"] == 1 else f"{free['n']} lesion-free scans are"
        print(f"{free['exactly_empty']} of {scans} exactly empty")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _jsonable(value: Any) -> Any:
    """NaN and infinity are no JSON: null."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, eq=False)
class _LabelImage:
    """An image with the names of its labels."""

    volume: Volume
    segments: dict[str, int]

    @property
    def array(self) -> NDArray[Any]:
        return self.volume.array

    @property
    def affine(self) -> NDArray[Any]:
        return self.volume.affine


def _reader(choice: MaskChoice) -> Callable[[Path], _LabelImage]:
    """Reads images that may be empty, or hold nothing but a segmentation."""
    from ..images.formats.segments import read_labels

    wanted = [name for name in (*(choice.pred or ()), *(choice.truth or ())) if type(name) is str]
    return lambda file: _LabelImage(*read_labels(file, last=wanted))


def _check_same_grid(
    file: Path, image: _LabelImage, other_file: Path, other_image: _LabelImage
) -> None:
    """A mirrored or shifted mask would be scored without complaint and wrongly."""
    volume, other = image.volume, other_image.volume
    if volume.array.shape != other.array.shape:
        cause = f"has {volume.array.shape[::-1]} voxels, {other_file} {other.array.shape[::-1]}"
    elif not volume.grid.same_as(other.grid, _TOLERANCE_MM):
        cause = f"lies elsewhere in space than {other_file}"
    else:
        return
    raise InputError(file, cause, "Resample one onto the grid of the other")
