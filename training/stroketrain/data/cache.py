"""One cache per tree: windowed uint8 volumes and their masks in two memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID, apply_window, read_scan, window_range
from StrokeLesionSegLib.images.volume import Grid

from .atlas import AtlasScan, find_r2_scans

WINDOW = (0.5, 99.5)


@dataclass(frozen=True)
class Cache:
    """An opened cache.

    Attributes
    ----------
    images: (N, 189, 233, 197) uint8, the windowed T1 in 0..255, MNI grid (k, j, i).
    masks: same shape, uint8 0/1.
    scans: one dict per scan: name, subject, session, site, volume_ml, and what the simulator knew.
    fingerprint: SHA-256 over names and voxels' sizes and sums; names the data in every manifest.
    """

    images: np.ndarray
    masks: np.ndarray
    scans: list[dict[str, Any]]
    fingerprint: str

    @staticmethod
    def open(folder: Path) -> Cache:
        """Map the cache in ``folder``; raises ``InputError`` if it is missing or unfinished."""
        index = folder / "index.json"
        if not index.is_file():
            raise InputError(folder, "no finished cache in it", "run stroketrain prepare first")
        meta = json.loads(index.read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        masks = np.load(folder / "masks.npy", mmap_mode="r")
        return Cache(images, masks, meta["scans"], meta["fingerprint"])

    def __len__(self) -> int:
        return len(self.scans)


def _read(scan: AtlasScan) -> tuple[np.ndarray, np.ndarray]:
    """Windowed T1 (uint8) and united mask of one scan; raises ``InputError`` off the MNI grid."""
    t1 = read_scan(scan.t1)
    expected = Grid(MNI_GRID.shape, MNI_GRID.affine)
    if not t1.volume.grid.same_as(expected, 0.01):
        raise InputError(
            scan.t1,
            f"its grid is {t1.volume.grid.shape}, not the {expected.shape} of ATLAS R2.0",
            "use the files registered to MNI152NLin2009aSym",
        )
    array = t1.volume.array
    image = np.round(apply_window(array, window_range(array, *WINDOW)) * 255).astype(np.uint8)
    mask = np.zeros(image.shape, np.uint8)
    for path in scan.masks:
        part = read_mask(path)
        if part.shape != mask.shape:
            raise InputError(path, f"its shape is {part.shape}, its T1's {mask.shape}", "leave out")
        mask |= part
    return image, mask


def read_mask(path: Path) -> np.ndarray:
    """A lesion mask as uint8 0/1 (K, J, I); an empty mask is a lesion-free scan, not an error."""
    import nibabel as nib

    return (np.asanyarray(nib.load(path).dataobj) > 0).astype(np.uint8).transpose(2, 1, 0)


def prepare(tree: Path, out: Path, *, say: Any = print) -> Cache:
    """Turn an ATLAS R2.0 tree into a cache below ``out``; unusable scans are named and left out.

    Raises ``InputError`` if nothing usable is found.
    """
    scans = [s for s in find_r2_scans(tree) if s.masks]
    if not scans:
        raise InputError(tree, "no scan with a lesion mask", "point to the Training folder")
    records = {
        (r["subject"], r["session"]): r
        for file in tree.rglob("simulated.json")
        for r in json.loads(file.read_text(encoding="utf-8"))
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").unlink(missing_ok=True)
    shape = (len(scans), *MNI_GRID.shape)
    from numpy.lib.format import open_memmap

    images = open_memmap(out / "images.npy", "w+", np.uint8, shape)
    masks = open_memmap(out / "masks.npy", "w+", np.uint8, shape)
    entries: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    for scan in scans:
        try:
            image, mask = _read(scan)
        except InputError as error:
            say(f"left out: {error}")
            continue
        n = len(entries)
        images[n], masks[n] = image, mask
        digest.update(f"{scan.name} {int(image.sum())} {int(mask.sum())}\n".encode())
        entry = {
            "name": scan.name,
            "subject": scan.subject,
            "session": scan.session,
            "site": scan.site,
            "volume_ml": float(mask.sum()) / 1000,
        }
        record = records.get((scan.subject, scan.session))
        if record:
            entry["simulation"] = record
        entries.append(entry)
    images.flush()
    masks.flush()
    if not entries:
        raise InputError(tree, "every scan was left out", "see the lines above")
    meta = {"window": WINDOW, "fingerprint": digest.hexdigest(), "scans": entries}
    temporary = out / ".index.json"
    temporary.write_text(json.dumps(meta, indent=0), encoding="utf-8")
    temporary.rename(out / "index.json")
    say(f"{len(entries)} of {len(scans)} scans in {out}, fingerprint {digest.hexdigest()[:12]}")
    return Cache.open(out)
