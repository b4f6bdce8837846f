"""What the names of images say: T1-weighted scans, or masks, other contrasts, maps and copies.

Programs for images leave what they compute beside the scan. Of one person that is one scan; what
is derived from it is left out, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ..file_formats import IMAGES_NOT_READ, image_endings, split_name

_T1 = {"t1", "t1w", "t1c", "mprage", "spgr", "bravo", "mp2rage"}
_MASKS = {
    *("mask", "masks", "seg", "segmentation", "dseg", "probseg", "label", "labels"),
    *("lesion", "lesions", "lesionsmooth", "probability", "prob", "uncertainty"),
    *("gt", "truth", "brainmask", "pred", "prediction", "aseg", "aparc", "t1lesion"),
    *("synthseg", "samseg", "ples", "lga", "wmparc", "ribbon", "hyperintensities"),
}
# Only words that cannot mean anything else: "pd_03" may be a patient with Parkinson's disease.
_OTHERS = {"flair", "t2", "t2w", "t2star", "t2starw", "pdw", "dwi", "adc", "bold", "swi", "sbref"}
# Maps and fields that programs compute from a T1.
_MAPS = {
    **dict.fromkeys(("pve", "pveseg", "mixeltype", "posteriors", "tissue"), "a map of tissue"),
    **dict.fromkeys(("gm", "wm", "csf"), "a map of tissue"),
    **dict.fromkeys(("bias", "biasfield"), "a bias field"),
    **dict.fromkeys(("jac", "jacobian", "logjac"), "a map of Jacobians"),
    **dict.fromkeys(
        ("warp", "inversewarp", "warpfield", "warpcoef", "coef", "field", "deformation", "xfm"),
        "a deformation field",
    ),
    **dict.fromkeys(("subcort", "firstseg", "parcellation", "parc", "atlas"), "a label map"),
    **dict.fromkeys(("skull", "outskin", "outskull", "inskull"), "a picture of the skull"),
    **dict.fromkeys(("thickness", "curv", "sulc", "distance"), "a map of the cortex"),
}
# Folders beside those of the scans, as nnU-Net and others lay them out.
_MASK_FOLDERS = {"labelstr", "labelsts", "labels", "masks", "segmentations"}
# As archives of DICOM images and downloads of studies come; a whole patient may be in one.
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
ARCHIVE = "an archive, which has to be unpacked"
# What browsers and programs for copying add to a name until all is there.
_UNFINISHED = {"part", "partial", "crdownload", "download", "filepart", "aria2", "tmp"}
# Values along surfaces (CIFTI) in files that are called .nii.
_CIFTI = re.compile(r"\.[dp](?:tseries|scalar|label|conn|dconn|pconn)\Z", re.I)
_FURTHER = re.compile(r" \(.*|(?<=^a copy) of .*|(?<=^an echo) of .*| (?:made from|that|than) .*")
# They may be somebody's initials or an ordinary word, unless they come last.
_LAST_ONLY = {"gm", "wm", "csf", "field", "atlas", "coef", "distance", "tissue", "bias"}
_ANTS = re.compile(
    r"(?:(brainsegmentation(?:posteriors\d+)?)|(brainextraction\w*)|(corticalthickness\w*)"
    r"|(\d(?:inverse)?warp|(?:subjecttotemplate|templatetosubject)\w*))\Z"
)
_ANTS_KINDS = ("a map of tissue", "a mask", "a map of the cortex", "a deformation field")
_PARTS = {"phase": "a phase image", "real": "the real part of an image",
          "imag": "the imaginary part of an image"}  # fmt: skip

# What may follow a scan's name in that of a copy which a program has made of it.
_COPY_WORDS = {
    *("brain", "bet", "biascorr", "bfc", "n4", "n4itk", "restore", "restored", "corrected"),
    *(
        "orig",
        "orig2std",
        "fullfov",
        "crop",
        "cropped",
        "reoriented",
        "reorient",
        "std",
        "canonical",
    ),
    *("to", "mni", "mni152", "lin", "nonlin", "sub", "warped", "norm", "normalized", "normalised"),
    *("stripped", "ss", "skullstripped", "masked", "denoised", "deface", "defaced", "smooth"),
    *("smoothed", "resampled", "resliced", "iso", "1mm", "2mm", "fast", "initfast2", "registered"),
}
# SPM and CAT12 put letters before the name: bias-corrected, normalised, smoothed, resliced; maps of
# tissue; fields.
_SPM_COPY = re.compile(r"[mwsru]{1,4}\Z")
_SPM_MAP = re.compile(
    r"(?:m0?|s|w|r|u)*(?:c|p)[0-7]\Z|(?:i?y|u_rc\d|j|iy|bias(?:field)?)_?\Z", re.I
)
# Which of a program's files stands for the person, in order.
_FSL_ANAT = ("T1", "T1_biascorr", "T1_orig", "T1_fullfov")
_FREESURFER = ("rawavg", "orig", "T1", "nu")


def why_not(path: Path, suffix: str) -> str:
    """Why an image's own name says that it is no T1-weighted scan; "" if it may be one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.image_names import why_not
    >>> why_not(Path("T1_fast_pve_0.nii.gz"), ".nii.gz"), why_not(Path("T1.nii.gz"), ".nii.gz")
    ('a map of tissue', '')
    """
    stem = path.name[: -len(suffix)] if suffix else path.name
    if _CIFTI.search(stem):
        return "values along surfaces (CIFTI)"
    pieces = stem.split("_")
    entities = dict(piece.split("-", 1) for piece in pieces if "-" in piece)
    if part := _PARTS.get(entities.get("part", "").lower()):
        return part
    if stem.startswith("sub-") and len(pieces) > 1:
        kind = pieces[-1]
        if "-" not in kind:
            return "" if kind.lower() == "t1w" else f"another kind of image (_{kind})"
    words = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word]
    t1 = [n for n, word in enumerate(words) if word in _T1]
    # Only the end of a name tells masks: "lesion_study_07_T1w" is a scan.
    after = words[t1[-1] + 1 :] if t1 else words[-3:]
    if any(word in _MASKS for word in after):
        return "a mask or a map of probabilities"
    for n, word in enumerate(after):
        if word in _MAPS and (word not in _LAST_ONLY or n == len(after) - 1):
            return _MAPS[word]
        if match := _ANTS.match(word):
            return _ANTS_KINDS[(match.lastindex or 1) - 1]
    if not t1:
        other = next((word for word in words if word in _OTHERS), "")
        return f'another contrast ("{other}")' if other else ""
    return ""


def unread(name: str, beside: Collection[str]) -> str:
    """Why a file is none of the images, though somebody may count on it; "" for any other.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.image_names import unread
    >>> unread("P1.par", ["P1.par", "P1.rec"]), unread("motion.par", ["motion.par"])
    ('a Philips PAR/REC image, which is not read', '')
    """
    stem, _, ending = name.rpartition(".")
    lower = ending.lower()
    if name.lower().endswith(_ARCHIVES):
        return ARCHIVE
    if lower == "par" and any(f"{stem}.{rec}" in beside for rec in ("rec", "REC")):
        return "a Philips PAR/REC image, which is not read"
    if lower in _UNFINISHED and stem.lower().endswith((*image_endings(), *IMAGES_NOT_READ)):
        return "a download that is not complete"
    return ""


def kind_of(reason: str) -> str:
    """A reason why an image is no scan, without the names of others and what was read of its own.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.image_names import kind_of
    >>> kind_of("a copy of T1.nii in another format"), kind_of("a map or field made from T1")
    ('a copy', 'a map or field')
    """
    return _FURTHER.sub("", reason)


def derived(paths: Iterable[Path]) -> Mapping[Path, str]:
    """Which of ``paths`` are made from another of them, and what from; all may be scans by name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.image_names import derived
    >>> files = [Path("p/T1.nii"), Path("p/c1T1.nii"), Path("p/T1_brain.nii"), Path("p/T2.nii")]
    >>> {path.name: why for path, why in derived(files).items()}
    {'c1T1.nii': 'a map or field made from T1', 'T1_brain.nii': 'a copy of T1'}
    """
    by_folder: dict[Path, dict[str, Path]] = {}
    order = list(paths)
    # Of one name in several formats the first of those that are read stands for the scan.
    for path in sorted(order, key=_format_rank):
        by_folder.setdefault(path.parent, {}).setdefault(split_name(path)[0], path)
    found: dict[Path, str] = {}
    for path in order:
        stem = split_name(path)[0]
        beside = dict(by_folder[path.parent])
        if path.parent.name.lower() == "mri":  # CAT12 sorts its results into folders
            beside = {**by_folder.get(path.parent.parent, {}), **beside}
        same = by_folder[path.parent][stem]
        if same != path:
            found[path] = f"a copy of {same.name} in another format"
        elif reason := (
            _among_masks(path, by_folder)
            or _chosen_by_program(path, by_folder)
            or _made_from(stem, beside)
        ):
            found[path] = reason
    return found


def _format_rank(path: Path) -> int:
    endings = image_endings()
    ending = split_name(path)[1]
    return endings.index(ending) if ending in endings else len(endings)


def _among_masks(path: Path, by_folder: Mapping[Path, Mapping[str, Path]]) -> str:
    """The reason, in a folder of masks with one of scans beside it."""
    name, above = path.parent.name.lower(), path.parent.parent
    beside = (folder for folder in by_folder if above in (folder, folder.parent))
    if name in _MASK_FOLDERS and any(f.name.lower() not in _MASK_FOLDERS for f in beside):
        return f"in a folder of masks ({path.parent.name})"
    return ""


def _chosen_by_program(path: Path, by_folder: Mapping[Path, Mapping[str, Path]]) -> str:
    """The reason, in a folder of fsl_anat or FreeSurfer from which one file is taken."""
    for folder in (path.parent, path.parent.parent):
        names = by_folder.get(folder, {})
        if folder.name.lower().endswith(".anat"):
            first = next((name for name in _FSL_ANAT if name in names), None)
        elif folder.name == "mri" and {"orig", "brainmask", "nu", "rawavg"} & set(names):
            first = next((name for name in _FREESURFER if name in names), None)
        else:
            continue
        if first is not None and names[first] != path:
            return f"a result of the program that {first} stands for"
    return ""


def _made_from(stem: str, beside: Mapping[str, Path]) -> str:
    for cut in range(1, min(len(stem), 12)):
        base = stem[cut:]
        if base in beside and base[:1].isalnum():
            prefix = stem[:cut]
            if _SPM_MAP.match(prefix):
                return f"a map or field made from {base}"
            if _SPM_COPY.match(prefix):
                return f"a copy of {base}"
    words = re.split(r"([_.\-])", stem)
    for end in range(len(words) - 2, 0, -2):
        base = "".join(words[:end])
        rest = [word.lower() for word in words[end + 1 :: 2]]
        if base in beside and all(word in _COPY_WORDS for word in rest):
            return f"a copy of {base}"
    return _bids_copy(stem, beside)


def _bids_copy(stem: str, beside: Mapping[str, Path]) -> str:
    """A BIDS name with entities of derivatives beside one without."""
    if not stem.startswith("sub-"):
        return ""
    pieces = stem.split("_")
    bare = [p for p in pieces if p.split("-", 1)[0] not in ("space", "desc", "res", "den")]
    base = "_".join(bare)
    if len(bare) < len(pieces) and base in beside:
        return f"a copy of {base}"
    # Without the original, as in fMRIPrep's results, the one in the scan's own space stands for it.
    native = "_".join(p for p in pieces if p.split("-", 1)[0] not in ("space", "res", "den"))
    if native != stem and native in beside:
        return f"a copy of {native}"
    return _echo(pieces, beside)


def _echo(pieces: list[str], beside: Mapping[str, Path]) -> str:
    """A later echo of a scan, or one of several of which there is a combination."""
    place = next((n for n, piece in enumerate(pieces) if piece.startswith("echo-")), None)
    if place is None:
        return ""
    whole = "_".join(pieces[:place] + pieces[place + 1 :])
    if whole in beside:
        return f"an echo of {whole}"
    others = [other.split("_") for other in beside]
    echoes = [
        other
        for other in others
        if len(other) == len(pieces)
        and other[place].startswith("echo-")
        and other[:place] + other[place + 1 :] == pieces[:place] + pieces[place + 1 :]
    ]
    first = min(echoes, key=lambda other: (len(other[place]), other[place]))
    return "" if first == pieces else f"a later echo than {'_'.join(first)}"
