"""A teacher, any installed model, labels a folder of T1s; ``fit`` reads what comes of it.

``out`` is a cache, as ``stroketrain prepare`` makes one, with the teacher's probabilities beside
its masks, and ``out/heads`` the same for the volumetric network. Each scan is kept as soon as it is
labelled, so that a run that was stopped goes on where it was; one that has changed is labelled
again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Volume,
    align_to_mni,
    apply_window,
    lies_on_mni_grid,
    probability_in_mni,
    read_scan,
    to_canonical,
    window_range,
)
from StrokeLesionSegLib.outputs import atomic_file

from ..data.cache import Cache, new_arrays, refuse_other_cache
from ..data.reading import WINDOW, WINDOW_LOW_OF
from ..made_of import keep_made_of

# The share of the subjects that only validate, at least one.
_VALIDATION = 0.1


@dataclass(frozen=True)
class DistillOptions:
    """How scans are labelled.

    ``threshold``: probability from which on a voxel is lesion; None: as the teacher recommends.
    ``least_ml``: pieces smaller than this are no lesions; None: the same. ``mirror``, ``device``,
    ``threads``: of the teacher. ``seed``: of the split into training and validation.
    """

    threshold: float | None = None
    least_ml: float | None = None
    mirror: bool = True
    device: str = "auto"
    threads: int | None = None
    seed: int = 0


def distill(
    teacher: str, source: Path, out: Path, options: DistillOptions | None = None, say: Any = print
) -> Cache:
    """Label the T1s of ``source`` (a folder or a list) and write the cache ``out``.

    Labels are cut from the kept probabilities each time, so that another threshold costs nothing.
    Scans that cannot be used are named and left out.

    Raises ``InputError`` if the teacher is unknown, no scan can be used, ``out`` belongs to
    another teacher, or to one that was asked in another way, or holds a cache of other scans.
    """
    from StrokeLesionSegLib.cohort import find_scans
    from StrokeLesionSegLib.inference import SegmentOptions
    from StrokeLesionSegLib.models import load_model
    from StrokeLesionSegLib.operating_point import OperatingPointChoice

    options = options or DistillOptions()
    model = load_model(teacher)
    manifest = model.manifest
    point = OperatingPointChoice(options.threshold, min_volume_ml=options.least_ml).resolve(
        manifest.operating_point()
    )
    refuse_other_cache(out, "distill", source)
    parts = out / "labelled"
    parts.mkdir(parents=True, exist_ok=True)
    asked = {
        "name": manifest.name,
        "weights": manifest.weight_files,
        "mirror": options.mirror,
    }
    keep_made_of(
        out / "teacher.json",
        asked,
        holds="labels of another teacher, or of one that was asked in another way",
        there=any(parts.iterdir()),
    )
    run = SegmentOptions(mirror=options.mirror, device=options.device, threads=options.threads)
    scans = find_scans(source, leave_out=out).scans
    entries, skipped = [], []
    for scan in scans:
        name = scan.entities.stem
        target = parts / f"{name}.npz"
        try:
            made_of = _contents(scan.path, scan.series)
            if not _is_labelled(target, made_of):
                _label(scan.path, scan.series, target, model, run, made_of)
            entries.append(
                {
                    "name": name,
                    "subject": scan.entities.subject,
                    "session": scan.entities.session or "",
                    "site": "",
                }
            )
        except InputError as error:
            say(f"left out: {error}")
            skipped.append({"path": str(scan.path), "reason": str(error)})
    if not entries:
        raise InputError(source, "no scan could be labelled", "See the lines above")
    (out / "report.json").write_text(
        json.dumps({"teacher": manifest.name, "used": len(entries), "skipped": skipped}, indent=1),
        encoding="utf-8",
    )
    facts = {"teacher": manifest.name, "operating_point": asdict(point)}
    cache = _write_cache(out, entries, point, facts)
    _write_heads(out, entries, cache, options.seed)
    labelled = counted(len(entries), "scan")
    say(f"{labelled} labelled by {manifest.name} in {out}, and in {out / 'heads'}")
    return cache


def _contents(source: Path, series: str | None) -> str:
    """What tells a scan from another of the same name."""
    from StrokeLesionSegLib.pipeline.contents import scan_sha256

    try:
        return f"{scan_sha256(source)} {series or ''}"
    except OSError:  # reading it tells why
        return ""


def _is_labelled(target: Path, made_of: str) -> bool:
    """Whether the labels of this very scan are kept; earlier versions did not say of which."""
    try:
        with np.load(target, allow_pickle=False) as kept:
            return "made_of" not in kept.files or str(kept["made_of"]) == made_of
    except FileNotFoundError:
        return False
    except (OSError, ValueError, zipfile.BadZipFile):  # ``read_labelled`` tells it
        return True


def _label(
    source: Path, series: str | None, target: Path, model: Any, options: Any, made_of: str
) -> None:
    """One scan: windowed image and probability on the MNI grid, uint8 0 to 255, and ``made_of``."""
    from StrokeLesionSegLib.inference import segment_volume
    from StrokeLesionSegLib.input_check import check_scan, refuse_or_warn, repair

    scan = repair(read_scan(source, series=series))
    refuse_or_warn(source, check_scan(scan), force=False)
    volume = scan.volume
    alignment = None if lies_on_mni_grid(volume.grid) else align_to_mni(volume)
    if alignment is not None and not alignment.ok:
        raise InputError(source, f"cannot be aligned ({alignment.reason})", "Leave it out")
    to_mni = np.eye(4) if alignment is None else alignment.matrix
    prediction = segment_volume(volume, model, options, alignment=alignment)
    probability = probability_in_mni(prediction.probability, to_mni).array
    array = to_canonical(volume, alignment).volume.array
    image = apply_window(array, window_range(array, *WINDOW, low_of=WINDOW_LOW_OF))
    with atomic_file(target) as part:
        np.savez_compressed(
            part,
            image=_as_bytes(image),
            probability=_as_bytes(probability),
            made_of=np.array(made_of),
        )


def _as_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.round(values * 255).astype(np.uint8)


def read_labelled(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and probability, uint8 0 to 255 on the MNI grid, of a scan that was labelled.

    Raises ``InputError`` if it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["image"], archive["probability"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(path, f"cannot be read ({error})", "Delete it and label again") from error


def _write_cache(
    out: Path, entries: list[dict[str, Any]], point: Any, facts: dict[str, Any]
) -> Cache:
    from StrokeLesionSegLib.lesions import find_lesions

    (out / "index.json").unlink(missing_ok=True)
    images, masks, probabilities = new_arrays(
        out, ("images", "masks", "probabilities"), len(entries)
    )
    digest = hashlib.sha256()
    for n, entry in enumerate(entries):
        images[n], probabilities[n] = read_labelled(out / "labelled" / f"{entry['name']}.npz")
        soft = Volume(probabilities[n].astype(np.float32) / 255, MNI_GRID.affine)
        found = find_lesions(soft.array, soft.affine, point, to_mni=np.eye(4))
        masks[n] = found.mask
        entry.update(volume_ml=float(masks[n].sum()) / 1000, teacher=facts)
        digest.update(f"{entry['name']}\n".encode())
        for volume in (images[n], masks[n]):
            digest.update(np.ascontiguousarray(volume).data)
    for array in (images, masks, probabilities):
        array.flush()
    meta = {
        "window": WINDOW,
        "window_low_of": WINDOW_LOW_OF,
        "layout": "distilled",
        "fingerprint": digest.hexdigest(),
        "scans": entries,
    }
    with atomic_file(out / "index.json") as part:
        part.write_text(json.dumps(meta, indent=0), encoding="utf-8")
    return Cache.open(out)


def _write_heads(out: Path, entries: Sequence[dict[str, Any]], cache: Cache, seed: int) -> None:
    """The same scans as ``stroketrain heads`` keeps people, their lesions with them."""
    from StrokeLesionSegLib.inference.head_box import HEAD_BOX
    from StrokeLesionSegLib.learning.heads import save_bank, save_head
    from StrokeLesionSegLib.learning.strokes.anatomy import (
        Anatomy,
        Head,
        find_ventricles,
        fluid_frequency,
    )
    from StrokeLesionSegLib.learning.strokes.shapes import MaskBank

    assert cache.probabilities is not None
    folder = out / "heads"
    (folder / "heads").mkdir(parents=True, exist_ok=True)
    for kept in folder.glob("validation-*"):  # simulated scans, with the labels of before in them
        shutil.rmtree(kept)
    anatomy = Anatomy.of_template()
    pictures = [np.ascontiguousarray(cache.images[n][HEAD_BOX]) for n in range(len(cache))]
    frequency = fluid_frequency(pictures, anatomy)
    lesions = []
    for n, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        mask = np.ascontiguousarray(cache.masks[n][HEAD_BOX]) > 0
        ventricles = find_ventricles(picture, anatomy, frequency) & ~mask
        said = np.ascontiguousarray(cache.probabilities[n][HEAD_BOX])
        head = Head(picture, ventricles, False, entry["name"], mask, said)
        save_head(folder / "heads" / f"{entry['name']}.npz", head)
        lesions.append(mask)
    subjects = sorted({entry["subject"] for entry in entries})
    order = np.random.default_rng(seed).permutation(len(subjects))
    held = {subjects[n] for n in order[: max(1, round(_VALIDATION * len(subjects)))]}
    if len(subjects) == 1:
        held = set()
    split: dict[str, list[str]] = {"train": [], "validation": []}
    shapes: dict[str, list[NDArray[np.bool_]]] = {"train": [], "validation": []}
    for entry, mask in zip(entries, lesions, strict=True):
        part = "validation" if entry["subject"] in held else "train"
        split[part].append(entry["name"])
        if mask.any():
            shapes[part].append(mask)
    for part, masks in shapes.items():
        # A part without a lesion borrows the shapes of the other.
        usable = masks or shapes["train"] or shapes["validation"]
        if not usable:
            raise InputError(
                out,
                "the teacher found no lesion in any scan",
                "Lower --threshold, or use another teacher",
            )
        save_bank(folder / f"masks-{part}.npz", MaskBank.of(usable))
    with atomic_file(folder / "split.json") as file:
        file.write_text(json.dumps(split, indent=1), encoding="utf-8")
