"""Scoring a folder of predictions against a folder of references."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...brief import counted
from ...errors import InputError
from ...file_formats import image_endings, split_name
from ...walk import files_below
from .summary import summarise_scores
from .values import Labels, lesion_mask

# Last words of file names that say what an image is, and nothing about which scan it belongs to.
_MASK_WORDS = {
    *("mask", "masks", "seg", "segmentation", "dseg", "lesion", "lesions", "label", "labels"),
    *("pred", "prediction", "truth", "gt", "reference", "msk", "lesionsmooth"),
}
_SOFT_WORDS = {"probseg", "probability", "prob", "probabilities", "soft", "softmap"}
_OTHER_WORDS = {"t1w", "t1", "t2w", "t2", "flair", "dwi", "adc", "uncertainty"}
# How the names of a batch's maps of all scans begin.
_GROUP_MAP = ["group", "overlap"]
# A mask that a reader has corrected: its "desc", and what it may be a mask of.
_CORRECTED, _OF_LESIONS = "corrected", ("", "L", "lesion")
# Last words that say what was done to an image; the word before them says what it is.
_DONE_WORDS = {"stx", "deface", "defaced"}
# ATLAS R1.x: one mask for each lesion, LesionSmooth_stx, LesionSmooth_1_stx and so on.
_PER_LESION = "lesionsmooth"
# BIDS entities that tell scans apart; space, desc, label, res and den only describe a derivative.
_IDENTITY = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part")
# Of those the ones that are numbers: run-01 and run-1 are one.
_INDICES = ("run", "echo")
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+.]+)\Z")

# Corners further apart than this (mm) are another grid; headers of 32-bit floats differ by less.
GRID_TOLERANCE_MM = 0.05


class Image(Protocol):
    """What ``read`` returns: an array (K, J, I) and the affine of (i, j, k, 1) to RAS mm.

    It may have ``segments``, the values of labels by their names.
    """

    @property
    def array(self) -> NDArray[Any]: ...

    @property
    def affine(self) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class MaskChoice:
    """What of images that are no plain masks is lesion.

    Attributes
    ----------
    pred, truth: labels of the predictions and of the references.
    strict_pred, strict_truth: whether they hold for masks of one value too.
    threshold: of the probability, for soft maps.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers import MaskChoice
    >>> MaskChoice(pred=(99,)).threshold is None
    True
    """

    pred: Labels | None = None
    truth: Labels | None = None
    strict_pred: bool = False
    strict_truth: bool = False
    threshold: float | None = None

    def mask(
        self, path: Path, image: Image, notes: dict[str, None], *, truth: bool = False
    ) -> NDArray[np.bool_]:
        """The lesion mask in an image; what was chosen goes into ``notes``.

        Raises ``InputError`` if that is not clear.
        """
        try:
            mask, note = lesion_mask(
                image.array,
                label=self.truth if truth else self.pred,
                threshold=self.threshold,
                segments=getattr(image, "segments", None),
                strict=self.strict_truth if truth else self.strict_pred,
            )
        except ValueError as error:
            remedy = "Give --threshold P" if "soft" in str(error) else "Name the lesion by --label"
            raise InputError(path, str(error), f"{remedy}, or a binary lesion mask") from error
        if note:
            notes[f"{path.name}: {note}"] = None
        return mask


@dataclass(frozen=True)
class CaseScore:
    """The scores of one case, ``score_case``'s dict, with the files that it came from.

    ``more`` are further reference masks, of other lesions, that were united with ``truth``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.lesions.scorers import CaseScore
    >>> CaseScore("sub-01", Path("a.nii.gz"), Path("b.nii.gz"), {"dice": 0.8}).scores["dice"]
    0.8
    """

    case: str
    pred: Path
    truth: Path
    scores: dict[str, float]
    more: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FolderScores:
    """Scores of all cases.

    Attributes
    ----------
    scorer: its name.
    cases: by name.
    problems: one ``InputError`` for every case that could not be scored.
    notes: what was chosen about images that are no plain masks.
    summary: see ``summarise_scores``.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import FolderScores
    >>> FolderScores("atlas2022", (), (), {}).cases
    ()
    """

    scorer: str
    cases: tuple[CaseScore, ...]
    problems: tuple[InputError, ...]
    summary: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    path: Path
    role: str  # "mask", "soft" or "other"
    key: str  # which scan, with the folder it lies in
    stem: str  # which scan, by the file's name alone
    about_lesions: bool
    place: str = ""  # path below the folder without the words for masks, where a scan would lie
    per_lesion: bool = False  # one lesion of several; the others lie beside it
    more: tuple[Path, ...] = ()
    standard_space: bool = False  # its name tells a space
    corrected: bool = False  # by a reader; the automatic mask lies beside it


@dataclass(frozen=True)
class ScoreOptions:
    """How two folders are scored.

    Attributes
    ----------
    choice: which labels are lesion and where soft maps are cut; masks need none.
    distances: add the measures of ``agreement``.
    names_of: what the program that predicted may have called a scan (``sub-Site1P07``), from the
        place where the reference lies (``site1/p-07``: below ``truth_dir``, without the words for
        masks).
    seed: of the bootstrap.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import ScoreOptions
    >>> ScoreOptions(distances=True).seed
    0
    """

    choice: MaskChoice = field(default_factory=MaskChoice)
    distances: bool = False
    names_of: Callable[[str], Iterable[str]] = lambda place: ()
    seed: int = 0


def score_folders(
    pred_dir: str | Path,
    truth_dir: str | Path,
    scorer: str,
    options: ScoreOptions | None = None,
    *,
    read: Callable[[Path], Image],
    progress: Callable[[str, int, int], None] | None = None,
) -> FolderScores:
    """Score every reference mask in ``truth_dir`` against its prediction in ``pred_dir``.

    Both may also be single files. Folders are searched through. Files belong together if their
    BIDS entities (sub, ses, acq, run, ...) agree, else if their names do once words such as
    ``_mask`` or ``_pred`` are taken off the end, else if ``options.names_of`` says so.
    ``*_probseg`` and the like are the soft maps of ``isles2026``; T1w images and other companions
    are passed over. Several ``LesionSmooth`` masks of one scan (ATLAS R1.1, R1.2) are united. Of
    ``*_desc-corrected_mask`` and the automatic mask beside it, the latter is a prediction and the
    former a reference; ``notes`` say so.

    Parameters
    ----------
    read: reads one image; ``InputError`` from it counts against that case only.
    progress: called as ``progress("score", done, total)``.

    A case without prediction, without reference, with two candidates, with one file as both, or
    whose prediction lies on another grid (shape, or a corner more than 0.05 mm off) is an
    ``InputError`` in ``problems``; the others go on.

    Raises ``InputError`` if a path does not exist or there is no reference mask, and
    ``ValueError`` for an unknown scorer.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, read_scan, write_volume
    >>> from StrokeLesionSegLib.lesions import score_folders
    >>> mask = Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    >>> mask.array[2:6, 2:6, 2:6] = 1
    >>> write_volume("sub-01_pred.nii.gz", mask)
    >>> write_volume("sub-01_truth.nii.gz", mask)
    >>> read = lambda path: read_scan(path, allow_constant=True).volume
    >>> scores = score_folders("sub-01_pred.nii.gz", "sub-01_truth.nii.gz", "atlas2022", read=read)
    >>> scores.cases[0].scores["dice"]
    1.0
    """
    from . import metrics_of, score_case

    metrics_of(scorer)
    options = options or ScoreOptions()
    score = partial(score_case, scorer=scorer, distances=options.distances)
    pred_dir, truth_dir = Path(pred_dir), Path(truth_dir)
    problems: list[InputError] = []
    notes: dict[str, None] = {}
    pairs = _pair_up(pred_dir, truth_dir, problems, options.names_of, notes)
    cases = []
    for done, (case, pred, truth, more, soft) in enumerate(pairs):
        if progress:
            progress("score", done, len(pairs))
        try:
            files = (pred, (truth, *more), soft if scorer == "isles2026" else None)
            scores = _score_files(*files, score, read, options.choice, notes)
        except InputError as error:
            problems.append(error)
        else:
            cases.append(CaseScore(case, pred, truth, scores, more))
    if progress:
        progress("score", len(pairs), len(pairs))
    summary = summarise_scores([c.scores for c in cases], scorer, seed=options.seed)
    summary["n_problems"] = len(problems)
    return FolderScores(scorer, tuple(cases), tuple(problems), summary, tuple(notes))


def _score_files(
    pred: Path,
    truths: Sequence[Path],
    soft: Path | None,
    score: Callable[..., dict[str, float]],
    read: Callable[[Path], Image],
    choice: MaskChoice,
    notes: dict[str, None],
) -> dict[str, float]:
    truth = truths[0]
    reference = read(truth)
    true_mask = choice.mask(truth, reference, notes, truth=True)
    for path in truths[1:]:
        further = read(path)
        _same_grid(path, further, truth, reference)
        true_mask = true_mask | choice.mask(path, further, notes, truth=True)
    prediction = read(pred)
    _same_grid(pred, prediction, truth, reference)
    pred_mask = choice.mask(pred, prediction, notes)
    probabilities = None
    if soft is not None:
        image = read(soft)
        _same_grid(soft, image, truth, reference)
        probabilities = image.array
    try:
        return score(pred_mask, true_mask, reference.affine, soft=probabilities)
    except ValueError as error:
        raise InputError(pred, f"cannot be scored: {error}", "Give a binary lesion mask") from error


def _same_grid(path: Path, image: Image, truth: Path, reference: Image) -> None:
    remedy = f"Resample it to the grid of {truth.name} and check its orientation"
    a, b = image.array.shape, reference.array.shape
    if a != b:
        raise InputError(path, f"its shape (k, j, i) is {a}, that of the reference {b}", remedy)
    k, j, i = a
    corners = np.array([[x, y, z, 1.0] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)])
    shift = np.linalg.norm((corners @ (image.affine - reference.affine).T)[:, :3], axis=1).max()
    if not np.isfinite(shift):
        raise InputError(path, "its affine or that of the reference is not finite", remedy)
    if shift > GRID_TOLERANCE_MM:
        raise InputError(
            path, f"its grid is {shift:.3g} mm away from that of the reference", remedy
        )


# -------------------------------------------------------------------- which file belongs to which


def _stem(name: str) -> str | None:
    stem, ending = split_name(Path(name))
    return stem if ending in image_endings() else None


def _classify(path: Path, root: Path) -> _File | None:
    """What a file is and which scan it belongs to; None if it is no image."""
    stem = _stem(path.name)
    if stem is None or path.name.startswith("."):
        return None
    parts = stem.split("_")
    while len(parts) > 1 and parts[-1].lower() in _DONE_WORDS:
        parts = parts[:-1]
    if len(parts) > 1 and parts[-1].isdecimal() and parts[-2].lower() == _PER_LESION:
        parts = parts[:-1]
    entities = _entities(parts)
    about = any("lesion" in v.lower() for v in (*entities.values(), parts[-1]))
    about = about or entities.get("label") == "L"
    last = parts[-1].lower()
    role = "mask"
    if parts[:2] == _GROUP_MAP:
        role = "other"
    elif last in _SOFT_WORDS:
        role = "soft"
    elif last in _OTHER_WORDS or ("sub" in entities and last not in _MASK_WORDS):
        # A BIDS name ends in its suffix, so anything but a mask's is another kind of image.
        role = "other"
    if "sub" in entities:
        key = _identity(entities)
        corrected = entities.get("desc") == _CORRECTED and entities.get("label", "") in _OF_LESIONS
        about, space = about or corrected, "space" in entities
        return _File(path, role, key, key, about, standard_space=space, corrected=corrected)
    words = parts
    known = _MASK_WORDS | _SOFT_WORDS
    while words and words[-1].lower() in known:
        words = words[:-1]
    stem = "_".join(words)
    # Systems differ in whether an accent is a character of its own.
    stem = unicodedata.normalize("NFC", stem)
    folder = unicodedata.normalize("NFC", path.parent.relative_to(root).as_posix())
    key = "/".join(p for p in (folder if folder != "." else "", stem) if p)
    return _File(path, role, key, stem or path.parent.name, about, key, last == _PER_LESION)


def _entities(parts: Iterable[str]) -> dict[str, str]:
    return {m[1]: m[2] for m in map(_ENTITY.match, parts) if m}


def _identity(entities: dict[str, str]) -> str:
    def value(entity: str) -> str:
        text = entities[entity]
        return str(int(text)) if entity in _INDICES and text.isdecimal() else text

    return "_".join(f"{e}-{value(e)}" for e in _IDENTITY if e in entities)


def _collect(root: Path, what: str) -> list[_File]:
    if root.is_file():
        file = _classify(root, root.parent)
        # A file that was named is the mask, whatever it is called.
        return [replace(file, role="mask")] if file else [_File(root, "mask", root.name, "", True)]
    if not root.is_dir():
        raise InputError(root, f"there is no such {what}", "Check the path")
    found = (_classify(p, root) for p in sorted(files_below(root)))
    return [f for f in found if f is not None]


def _one_per_scan(
    files: Iterable[_File],
    problems: list[InputError] | None,
    name: Callable[[_File], str],
    *,
    corrected: bool = False,
) -> dict[str, _File]:
    """The one file of each scan; ``corrected``: a corrected mask goes before the automatic one."""
    groups: dict[str, list[_File]] = {}
    for file in files:
        groups.setdefault(name(file), []).append(file)
    chosen = {}
    for key, group in groups.items():
        # A tissue or brain mask may lie beside the lesion mask of the same scan.
        if len(group) > 1:
            group = [f for f in group if f.about_lesions] or group
        # So may the same in a standard space; references lie on the scan's own grid.
        if len(group) > 1:
            group = [f for f in group if not f.standard_space] or group
        if len(group) > 1:
            group = [f for f in group if f.corrected == corrected] or group
        if len(group) > 1 and all(f.per_lesion for f in group):
            group = [replace(group[0], more=tuple(f.path for f in group[1:]))]
        if len(group) == 1:
            chosen[key] = group[0]
        elif problems is not None:
            names = ", ".join(f.path.name for f in group)
            problems.append(
                InputError(
                    group[0].path.parent, f"several masks of {key}: {names}", "Leave only one there"
                )
            )
    return chosen


def _pair_up(
    pred_dir: Path,
    truth_dir: Path,
    problems: list[InputError],
    names_of: Callable[[str], Iterable[str]],
    notes: dict[str, None],
) -> list[tuple[str, Path, Path, tuple[Path, ...], Path | None]]:
    """Case name, prediction, references and soft map of every case that has these but the last."""
    pred_files = _collect(pred_dir, "prediction")
    truth_files = [f for f in _collect(truth_dir, "reference") if f.role == "mask"]
    if not truth_files:
        raise InputError(truth_dir, "contains no reference mask", "Check the folder")
    if pred_dir.is_file() and truth_dir.is_file():
        return [(_stem(truth_dir.name) or truth_dir.name, pred_dir, truth_dir, (), None)]
    ambiguous = len(problems)
    pred_masks = [f for f in pred_files if f.role == "mask"]
    # As predictions corrected masks would flatter the model; as references they are what a reader
    # says.
    truths = _one_per_scan(truth_files, problems, lambda f: f.key, corrected=True)
    preds = _one_per_scan(pred_masks, problems, lambda f: f.key)
    softs = _one_per_scan((f for f in pred_files if f.role == "soft"), None, lambda f: f.key)
    several = len(problems) > ambiguous
    _tell_corrected(pred_masks, preds, truth_files, truths, notes)

    partner = {key: preds[key] for key in truths if key in preds}
    # One side may be sorted into folders and the other not: then unique names decide.
    rest_truths = _one_per_scan(
        (f for k, f in truths.items() if k not in partner), None, lambda f: f.stem
    )
    rest_preds = _one_per_scan(
        (f for k, f in preds.items() if k not in partner), None, lambda f: f.stem
    )
    for stem, truth in rest_truths.items():
        if stem in rest_preds:
            partner[truth.key] = rest_preds[stem]
    _pair_by_given_names(truths, preds, partner, names_of)

    pairs = []
    used = set()
    for key, truth in sorted(truths.items()):
        pred = partner.get(key)
        if pred is None:
            remedy = "Leave only one prediction" if several else "Predict this scan, or rename it"
            problems.append(InputError(truth.path, f"no prediction of {key} found", remedy))
            continue
        used.add(pred.key)
        if _same_file(pred.path, truth.path):
            cause = f"is prediction and reference of {key} in one"
            problems.append(InputError(truth.path, cause, "Give references that readers have made"))
            continue
        soft = softs.get(pred.key)
        pairs.append((key, pred.path, truth.path, truth.more, soft.path if soft else None))
    for key, pred in sorted(preds.items()):
        if key not in used:
            problems.append(
                InputError(
                    pred.path, f"no reference of {key} found", "Add one, or take this file away"
                )
            )
    return pairs


def _tell_corrected(
    pred_files: Sequence[_File],
    preds: dict[str, _File],
    truth_files: Sequence[_File],
    truths: dict[str, _File],
    notes: dict[str, None],
) -> None:
    """Note where corrected masks were left out as predictions, and taken as references."""
    left_out = {f.key for f in pred_files if f.corrected and f.key in preds}
    left_out -= {key for key, file in preds.items() if file.corrected}
    if left_out:
        notes[
            f"corrected masks lie beside the predictions of {counted(len(left_out), 'scan')} and "
            "were left out: scored is what the model found"
        ] = None
    automatic = {f.key for f in truth_files if not f.corrected}
    taken = {key for key, file in truths.items() if file.corrected} & automatic
    if taken:
        notes[
            f"the references of {counted(len(taken), 'scan')} are corrected masks, not the "
            "automatic ones beside them"
        ] = None


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # a link that leads nowhere, which reading tells
        return False


def _pair_by_given_names(
    truths: dict[str, _File],
    preds: dict[str, _File],
    partner: dict[str, _File],
    names_of: Callable[[str], Iterable[str]],
) -> None:
    """Add to ``partner`` what ``names_of`` tells, where it tells one reference for a prediction."""
    used = {file.key for file in partner.values()}
    # Letter case tells no two predictions apart: on some file systems it does not tell files.
    free = {key.casefold(): file for key, file in preds.items() if key not in used}
    wanted: dict[str, list[str]] = {}
    for key, truth in truths.items():
        if key not in partner and truth.place:
            names = {_name_key(name).casefold() for name in names_of(truth.place)}
            for name in names & free.keys():
                wanted.setdefault(name, []).append(key)
    for name, keys in wanted.items():
        if len(keys) == 1:
            partner[keys[0]] = free[name]


def _name_key(name: str) -> str:
    return _identity(_entities(name.split("_")))
