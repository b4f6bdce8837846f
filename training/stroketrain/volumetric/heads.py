"""People without stroke, brought to the head box once, and the masks that lend their shapes.

A folder of prepared heads holds ``heads/NAME.npz`` (image, ventricles, coarse) for each person,
``masks-PART.npz`` for each part, and ``split.json``. Nothing in it is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference.head_box import HEAD_BOX
from StrokeLesionSegLib.learning.heads import load_bank, load_head, save_bank, save_head
from StrokeLesionSegLib.learning.strokes.anatomy import (
    Anatomy,
    Head,
    find_ventricles,
    fluid_frequency,
)
from StrokeLesionSegLib.learning.strokes.shapes import MaskBank
from StrokeLesionSegLib.outputs import atomic_file

SPLIT_FILE = Path(__file__).with_name("split.json")
PARTS = ("train", "validation")


@dataclass(frozen=True, eq=False)
class HeadFolder:
    """A folder made by ``prepare_heads``.

    Raises ``InputError`` where it is none.
    """

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "split.json").is_file():
            raise InputError(
                self.path, "is not a folder of prepared heads", "Make one with stroketrain heads"
            )

    def names(self, part: str) -> list[str]:
        """People of ``part`` that are there."""
        split = json.loads((self.path / "split.json").read_text(encoding="utf-8"))
        return [n for n in split[part] if (self.path / "heads" / f"{n}.npz").is_file()]

    def head(self, name: str) -> Head:
        """One person."""
        return load_head(self.path / "heads" / f"{name}.npz")

    def bank(self, part: str) -> MaskBank:
        """Lesion masks of ``part``."""
        return load_bank(self.path / f"masks-{part}.npz")


def windowed_on_box(path: Path) -> NDArray[np.uint8]:
    """A T1 as the network sees it, times 255: (160, 192, 160).

    Raises ``InputError`` if it cannot be read or aligned.
    """
    from StrokeLesionSegLib.images import (
        align_to_mni,
        apply_window,
        read_scan,
        to_canonical,
        window_range,
    )

    volume = read_scan(path).volume
    alignment = align_to_mni(volume)
    if not alignment.ok:
        raise InputError(path, f"cannot be aligned ({alignment.reason})", "Leave it out")
    array = to_canonical(volume, alignment).volume.array
    array = apply_window(array, window_range(array, 0.5, 99.5, low_of="volume"))
    return np.round(array[HEAD_BOX] * 255).astype(np.uint8)


def prepare_heads(data: Path, out: Path, workers: int = 2) -> dict[str, int]:
    """Prepare the people and masks that ``split.json`` names and ``data`` has.

    ``data`` has folders ``t1`` and ``ixi`` of T1s and ``lesions`` of masks in MNI space. What is in
    ``out`` already is kept. Returns how many people and masks each part has.
    Raises ``InputError`` if a part has nobody.
    """
    from concurrent.futures import ProcessPoolExecutor

    split = json.loads(SPLIT_FILE.read_text(encoding="utf-8"))
    (out / "heads").mkdir(parents=True, exist_ok=True)
    jobs = []
    for part in PARTS:
        for person in split["people"][part]:
            source = data / person
            target = out / "heads" / f"{_stem(source)}.npz"
            if source.is_file() and not target.exists():
                jobs.append((source, out / "heads" / f"{_stem(source)}.npy"))
    with ProcessPoolExecutor(workers) as pool:
        for failure in pool.map(_prepare_one, *zip(*jobs, strict=True)) if jobs else ():
            if failure:
                print(failure)
    _add_ventricles(out)
    counts: dict[str, int] = {}
    for part in PARTS:
        there = [_stem(Path(p)) for p in split["people"][part]]
        there = [n for n in there if (out / "heads" / f"{n}.npz").is_file()]
        if not there:
            raise InputError(data, f"contains no subject of part {part}", "See its PROVENANCE.md")
        bank = MaskBank.of(list(_masks(data / m for m in split["masks"][part])))
        save_bank(out / f"masks-{part}.npz", bank)
        counts[f"{part} people"], counts[f"{part} masks"] = len(there), len(bank)
    names = {p: [_stem(Path(n)) for n in split["people"][p]] for p in PARTS}
    (out / "split.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
    return counts


def _prepare_one(source: Path, target: Path) -> str:
    try:
        if not target.exists():
            _save(target, windowed_on_box(source))
    except InputError as error:
        return str(error)
    return ""


def _add_ventricles(out: Path) -> None:
    """Each ``NAME.npy`` becomes ``NAME.npz`` with the ventricles found in it."""
    # One that begins with a dot was left half written by a run that was killed.
    new = sorted((out / "heads").glob("[!.]*.npy"))
    if not new:
        return
    anatomy = Anatomy.of_template()
    atlas = out / "fluid-frequency.npy"
    if not atlas.exists():
        _save(atlas, fluid_frequency([np.load(f) for f in new], anatomy).numpy())
    frequency = torch.from_numpy(np.load(atlas))
    for file in new:
        image = np.load(file)
        found = find_ventricles(image, anatomy, frequency)
        coarse = file.stem.startswith("IXI")
        save_head(file.with_suffix(".npz"), Head(image, found, coarse))
        file.unlink()


def _save(path: Path, array: NDArray[Any]) -> None:
    """Complete or not at all: the next run goes on with what is there."""
    with atomic_file(path) as part:
        np.save(part, array)


def _masks(paths: Iterable[Path]) -> Iterable[NDArray[np.bool_]]:
    from ..simulate.bank import read_mask_bank

    bank = read_mask_bank(p for p in paths if p.is_file())
    for n in range(len(bank)):
        yield bank.mask(n).numpy()[HEAD_BOX]


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
