"""``stroke-lesion-seg score``: masks against the truth, by one of the official scorers."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from ..outputs import OutputSet, os_input_error
from ..pipeline import check_source
from .options import add_progress_argument, path
from .progress import make_reporter, print_json
from .tables import print_table

if TYPE_CHECKING:
    from ..images import Volume
    from ..lesions.scorers import FolderScores

SCORERS = ("atlas2022", "isles2022", "isles2026")
# What the summary says of each measure.
_SUMMARY = ("n", "mean", "median", "ci95_low", "ci95_high")
# Headers that went through float32 and quaternions agree to about this.
_TOLERANCE_MM = 0.01


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "score",
        help="compare masks with the truth",
        description="Score a lesion mask against the true one, or a folder of masks against a "
        "folder of true ones. Both have to lie on the same grid.",
        allow_abbrev=False,
    )
    parser.add_argument("prediction", type=path, metavar="PRED", help="mask (> 0), or folder")
    parser.add_argument("truth", type=path, metavar="TRUTH", help="mask (> 0), or folder")
    parser.add_argument("--scorer", choices=SCORERS, default=SCORERS[0], help="default: atlas2022")
    parser.add_argument(
        "--soft",
        type=path,
        metavar="FILE",
        help="probability map, for isles2026's PR-AUC (in folders it is found by its name)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="DIR",
        help="for folders: write scores_SCORER_cases.tsv, scores_SCORER_summary.tsv and "
        "scores_SCORER.json there",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist already"
    )
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    for file in (arguments.prediction, arguments.truth):
        check_source(file)
    if arguments.prediction.is_dir() and arguments.truth.is_dir():
        _score_folders(arguments)
    elif arguments.output is not None:
        raise InputError("--output", "is for two folders", "Give folders, or print with --json")
    else:
        _score_files(arguments)


def _score_files(arguments: argparse.Namespace) -> None:
    from ..lesions.scorers import score_case

    files = [arguments.prediction, arguments.truth]
    if arguments.soft is not None:
        check_source(arguments.soft)
        files.append(arguments.soft)
    volumes = [_read(file) for file in files]
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        _check_same_grid(arguments.prediction, volumes[0], file, volume)
    try:
        scores = score_case(
            volumes[0].array,
            volumes[1].array,
            volumes[1].affine,
            arguments.scorer,
            soft=volumes[2].array if arguments.soft is not None else None,
        )
    except ValueError as error:  # a probability map in place of a mask
        raise InputError(arguments.prediction, str(error), "Give a binary lesion mask") from error
    if arguments.json:
        print_json(_jsonable({"scorer": arguments.scorer, **scores}))
    else:
        rows = [[k, _text(v)] for k, v in scores.items()]
        print_table(("measure", arguments.scorer), rows)


def _score_folders(arguments: argparse.Namespace) -> None:
    with _outputs(arguments) as outputs:
        from ..lesions.scorers import score_folders

        with make_reporter(arguments.progress) as reporter:
            result = score_folders(
                arguments.prediction,
                arguments.truth,
                arguments.scorer,
                read=_read,
                names_of=_names_of,
                progress=reporter,
            )
        if outputs is not None:
            _write(result, arguments, outputs)
    if arguments.json:
        print_json(_content(result))
    else:
        _print_folders(result)
    for problem in result.problems[:-1]:
        print(f"stroke-lesion-seg: {problem}", file=sys.stderr)
    if result.problems:
        raise result.problems[-1]  # exit code 2: not every case was scored


def _content(result: FolderScores) -> dict[str, Any]:
    cases = [{"case": case.case, **case.scores} for case in result.cases]
    problems = [str(problem) for problem in result.problems]
    content = {"scorer": result.scorer, "summary": result.summary, "cases": cases}
    return _jsonable({**content, "problems": problems})


def _outputs(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[OutputSet | None]:
    """The files of ``--output``, checked before the work starts; None if there are to be none."""
    if arguments.output is None:
        return contextlib.nullcontext()
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(error, arguments.output) from error
    documents = [(file, file.suffix) for file in _files(arguments)]
    return OutputSet([], documents, overwrite=arguments.overwrite)


def _files(arguments: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Cases, summary, everything."""
    start = f"scores_{arguments.scorer}"
    names = (f"{start}_cases.tsv", f"{start}_summary.tsv", f"{start}.json")
    cases, summary, whole = (arguments.output / name for name in names)
    return cases, summary, whole


def _write(result: FolderScores, arguments: argparse.Namespace, outputs: OutputSet) -> None:
    from ..lesions.tables import write_rows, write_sidecar

    cases, summary, whole = _files(arguments)
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
    lines += _lesion_free_rows(result)
    write_rows(outputs.staged(summary), ("measure", *_SUMMARY), lines)
    versions = {"name": "StrokeLesionSeg", "version": __version__}
    write_sidecar(outputs.staged(whole), {"software": versions, **_content(result)})
    outputs.commit()


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
    columns = ("measure", "n", "mean", "median", "95 % from", "to")
    summary = [
        [name, *(_text(values[key]) for key in _SUMMARY)]
        for name, values in result.summary["metrics"].items()
    ]
    print_table(columns, summary, f"{result.summary['n']} cases")
    free = result.summary["lesion_free"]
    if free["n"]:
        print(f"{free['exactly_empty']} of {free['n']} lesion-free scans are exactly empty")


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


def _read(file: Path) -> Volume:
    from ..images import read_scan

    return read_scan(file, allow_constant=True).volume  # nothing found, or nothing there


def _check_same_grid(file: Path, volume: Volume, other_file: Path, other: Volume) -> None:
    """A mirrored or shifted mask would be scored without complaint and wrongly."""
    if volume.array.shape != other.array.shape:
        cause = f"has {volume.array.shape[::-1]} voxels, {other_file} {other.array.shape[::-1]}"
    elif not volume.grid.same_as(other.grid, _TOLERANCE_MM):
        cause = f"lies elsewhere in space than {other_file}"
    else:
        return
    raise InputError(file, cause, "Resample one onto the grid of the other")
